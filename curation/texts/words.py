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
    return Words(
        vocabulary,
        ids,
        np.array([len(word) for word in vocabulary], np.int64),
        np.array([_is_symbol(word) for word in vocabulary], np.bool_),
        np.array([any(map(str.isalpha, word)) for word in vocabulary], np.bool_),
    )


def split_words(text: str) -> list[str]:
    """Words and punctuation marks in order."""
    return _WORD.findall(text)


def _is_symbol(word: str) -> bool:
    return not word[0].isalnum() and all(unicodedata.category(c)[0] == "P" or c in "$+<=>^`|~" for c in word)
