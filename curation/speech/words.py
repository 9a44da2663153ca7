"""Words: what counts as one, and when each is said where only the whole is timed."""

from __future__ import annotations

import re

from reelmill.curation.speech.contract import Word

_WIDE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Kana and Chinese characters, which are written without blanks: each counts as a word."""
_WORD = re.compile(rf"[{_WIDE}][^\s\w]*|[^\s{_WIDE}]+")


def split_words(text: str) -> list[str]:
    """Words with the punctuation that follows them."""
    return _WORD.findall(text)


def spread_words(text: str, start_s: float, end_s: float) -> list[Word]:
    """The words of a text that is said from `start_s` to `end_s`, each for as long as its share of the characters."""
    found = split_words(text)
    total = sum(map(len, found)) or 1
    words, at = [], 0
    for word in found:
        begin, at = at, at + len(word)
        words.append(Word(word, *(start_s + (end_s - start_s) * edge / total for edge in (begin, at))))
    return words
