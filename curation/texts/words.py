"""Words of a text in any language, counted once for all scorers."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
"""Scripts without blanks between words: those four, Chinese characters, kana."""
_IN_BLANKS = re.compile(r"\w+(?:['’-]\w+)*|\.\.+|[^\w\s]")
_IN_ASCII = re.compile(r"\w+(?:['-]\w+)*|\.\.+|[^\w\s\x1c-\x1f]", re.ASCII)
_IN_ANY = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+(?:['’-][^\W{_UNSPACED}]+)*|\.\.+|[^\w\s]")
"""The same words; the first two are quicker and know only texts with blanks between words, and ASCII."""
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")

Flags = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Words:
    """The N words of a text and its V different ones. Punctuation marks are words of their own, as in the tokenizers of
    NLTK and spaCy; a Chinese character is one.

    `ids` [N]: which of `vocabulary` each is. `lengths`, `is_symbol` and `is_alphabetic` [V]: characters; whether there
    is nothing but punctuation; whether there is a letter.
    """

    vocabulary: list[str]
    ids: Integers
    lengths: Integers
    is_symbol: Flags
    is_alphabetic: Flags


def words_of(text: str) -> Words:
    """The words of a text."""
    words = split_words(text)
    vocabulary = list(dict.fromkeys(words))
    places = dict(zip(vocabulary, range(len(vocabulary)), strict=True))
    ids = np.fromiter(map(places.__getitem__, words), np.int64, len(words))
    lengths = np.fromiter(map(len, vocabulary), np.int64, len(vocabulary))
    kinds = np.fromiter(map(_KINDS.__getitem__, vocabulary), np.int64, len(vocabulary))
    return Words(vocabulary, ids, lengths, kinds == _SYMBOL, kinds == _ALPHABETIC)


def split_words(text: str) -> list[str]:
    """Words and punctuation marks in order."""
    if text.isascii():
        return _IN_ASCII.findall(text)
    return (_IN_ANY if _HAS_UNSPACED.search(text) else _IN_BLANKS).findall(text)


_SYMBOL, _ALPHABETIC, _OTHER = range(3)
_MAX_KEPT = 1 << 17


class _Kinds(dict[str, int]):
    """Whether a word is a symbol or has a letter, found when it is first met: texts share most of their words."""

    def __missing__(self, word: str) -> int:
        found = _SYMBOL if _is_symbol(word) else _ALPHABETIC if any(map(str.isalpha, word)) else _OTHER
        if len(self) < _MAX_KEPT:
            self[word] = found
        return found


_KINDS = _Kinds()


def _is_symbol(word: str) -> bool:
    return not word[0].isalnum() and all(unicodedata.category(c)[0] == "P" or c in "$+<=>^`|~" for c in word)
