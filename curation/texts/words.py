"""Words of a text in any language, counted once for all scorers."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
"""Scripts without blanks between words: those four, Chinese characters, kana."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+(?:['’-][^\W{_UNSPACED}]+)*|\.\.+|[^\w\s]")

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


@lru_cache(maxsize=2)
def words_of(text: str) -> Words:
    """The words of a text, remembered for the next scorer."""
    places: dict[str, int] = {}
    ids = np.array([places.setdefault(word, len(places)) for word in split_words(text)], np.int64)
    vocabulary = list(places)
    lengths, is_symbol, is_alphabetic = np.array([_facts(word) for word in vocabulary], np.int64).reshape(-1, 3).T
    return Words(vocabulary, ids, lengths, is_symbol.astype(bool), is_alphabetic.astype(bool))


def split_words(text: str) -> list[str]:
    """Words and punctuation marks in order."""
    return _WORD.findall(text)


@lru_cache(maxsize=1 << 17)
def _facts(word: str) -> tuple[int, bool, bool]:
    """Length, whether it is a symbol, whether it has a letter: texts share most of their words."""
    return len(word), _is_symbol(word), any(map(str.isalpha, word))


def _is_symbol(word: str) -> bool:
    return not word[0].isalnum() and all(unicodedata.category(c)[0] == "P" or c in "$+<=>^`|~" for c in word)
