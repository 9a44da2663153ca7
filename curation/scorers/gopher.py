"""Gopher's filters of texts (Rae et al. 2021, appendix A1.1): what a text looks like, and what it repeats.

Values follow datatrove's filters, word for word of the same words (tests/curation/test_text_quality.py). All shares of
characters are of the text's, blanks included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from reelmill.curation.interfaces import ColumnType, Sample, Scorer
from reelmill.curation.texts.stop_words import STOP_WORDS
from reelmill.curation.texts.words import Integers, Words

_ELLIPSES = ("...", "…")
_BULLETS = ("•", "-")
_PARAGRAPHS = re.compile(r"\n{2,}")
_LINES = re.compile(r"\n+")
TOP_GRAMS = (2, 3, 4)
REPEATED_GRAMS = (5, 6, 7, 8, 9, 10)


class GopherQuality(Scorer):
    """Words that are not punctuation (`gopher_words`) and their mean length; `#` and ellipses for each word; shares of
    lines that begin with a bullet or end with an ellipsis; share of words with a letter; how many different stop words
    of its language there are, NULL for languages without a list (English where no scorer of languages ran before).
    """

    columns: ClassVar = {
        "gopher_words": "BIGINT",
        "gopher_word_length": "DOUBLE",
        "gopher_hashes": "DOUBLE",
        "gopher_ellipses": "DOUBLE",
        "gopher_bullet_lines": "DOUBLE",
        "gopher_ellipsis_lines": "DOUBLE",
        "gopher_alphabetic": "DOUBLE",
        "gopher_stop_words": "BIGINT",
    }
    kinds: ClassVar = ("text",)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample."""
        return [self._score(s.text or "", s.words, s.columns.get("text_language", "en")) for s in samples]

    def _score(self, text: str, words: Words, language: str | None) -> dict[str, Any]:
        count = max(len(words.ids), 1)
        lengths = words.lengths[words.ids][~words.is_symbol[words.ids]]
        lines = text.splitlines() or [""]
        stop_words = STOP_WORDS.get(language or "")
        return {
            "gopher_words": len(lengths),
            "gopher_word_length": float(lengths.mean()) if len(lengths) else None,
            "gopher_hashes": text.count("#") / count,
            "gopher_ellipses": sum(map(text.count, _ELLIPSES)) / count,
            "gopher_bullet_lines": sum(line.lstrip().startswith(_BULLETS) for line in lines) / len(lines),
            "gopher_ellipsis_lines": sum(line.rstrip().endswith(_ELLIPSES) for line in lines) / len(lines),
            "gopher_alphabetic": float(words.is_alphabetic[words.ids].sum()) / count,
            "gopher_stop_words": None if stop_words is None else len(stop_words.intersection(words.vocabulary)),
        }


class GopherRepetition(Scorer):
    """Shares of lines and paragraphs that came before, by number and by characters; shares of characters in the most
    frequent 2-, 3- and 4-gram of words, and in 5- to 10-grams that came before.
    """

    columns: ClassVar[Mapping[str, ColumnType]] = {
        "gopher_repeated_lines": "DOUBLE",
        "gopher_repeated_line_chars": "DOUBLE",
        "gopher_repeated_paragraphs": "DOUBLE",
        "gopher_repeated_paragraph_chars": "DOUBLE",
        **{f"gopher_top_{n}grams": "DOUBLE" for n in TOP_GRAMS},
        **{f"gopher_repeated_{n}grams": "DOUBLE" for n in REPEATED_GRAMS},
    }
    kinds: ClassVar = ("text",)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample."""
        return [self._score(sample.text or "", sample.words) for sample in samples]

    def _score(self, text: str, words: Words) -> dict[str, float]:
        size = max(len(text), 1)
        lines, paragraphs = _LINES.split(text), _PARAGRAPHS.split(text.strip())
        line_count, line_chars = repeated(lines)
        paragraph_count, paragraph_chars = repeated(paragraphs)
        return {
            "gopher_repeated_lines": line_count / len(lines),
            "gopher_repeated_line_chars": line_chars / size,
            "gopher_repeated_paragraphs": paragraph_count / len(paragraphs),
            "gopher_repeated_paragraph_chars": paragraph_chars / size,
            **{name: chars / size for name, chars in _gram_chars(words)},
        }


def repeated(parts: Iterable[str]) -> tuple[int, int]:
    """How many parts came before, and their characters."""
    seen: set[str] = set()
    count = chars = 0
    for part in parts:
        if part in seen:
            count += 1
            chars += len(part)
        else:
            seen.add(part)
    return count, chars


def _gram_chars(words: Words) -> Iterator[tuple[str, int]]:
    """Columns of n-grams, in characters.

    A gram can only occur twice where the shorter one it begins with does, so that of most texts little is left to
    compare after a few words.
    """
    ids = words.ids
    ends = np.concatenate([[0], np.cumsum(words.lengths[ids])])  # characters before each word
    at = np.arange(len(ids))  # where grams that may occur twice begin
    grams = ids
    for n in range(2, REPEATED_GRAMS[-1] + 1):
        if len(at) and at[-1] > len(ids) - n:
            inside = at.searchsorted(len(ids) - n, side="right")
            at, grams = at[:inside], grams[:inside]
        grams, counts = _numbered(grams * len(words.vocabulary) + ids[at + n - 1])
        if n in TOP_GRAMS:
            yield f"gopher_top_{n}grams", _top_chars(n, at, counts, ends)
        at, grams = at[counts > 1], grams[counts > 1]
        if n in REPEATED_GRAMS:
            yield f"gopher_repeated_{n}grams", _repeated_chars(n, at, grams, ends)


def _numbered(keys: Integers) -> tuple[Integers, Integers]:
    """For each key a number that equal ones share, and how many there are of it."""
    if len(keys) < 2:
        return np.zeros_like(keys), np.ones_like(keys)
    order = keys.argsort(kind="stable")
    ordered = keys[order]
    begins = np.empty(len(keys), np.bool_)
    begins[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
    numbers = begins.cumsum() - 1
    found = np.empty_like(keys)
    found[order] = numbers
    return found, np.bincount(numbers)[found]


def _top_chars(n: int, at: Integers, counts: Integers, ends: Integers) -> int:
    """Characters of the most frequent gram, blanks between its words included, times how often it occurs.

    Of several the first one counts; where none occurs twice it is the text's first.
    """
    if len(ends) <= n:
        return 0
    place, count = (0, 1) if not len(counts) else (at[counts.argmax()], counts.max())
    first = place if count > 1 else 0
    return int((ends[first + n] - ends[first] + n - 1) * count)


def _repeated_chars(n: int, at: Integers, grams: Integers, ends: Integers) -> int:
    """Characters of grams that came before. After one of them the search goes on behind it."""
    seen: set[int] = set()
    chars = behind = 0
    for place, gram in zip(at.tolist(), grams.tolist(), strict=True):
        if place < behind:
            continue
        if gram in seen:
            chars += int(ends[place + n] - ends[place])
            behind = place + n
        else:
            seen.add(gram)
    return chars
