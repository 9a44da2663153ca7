"""Contamination: texts, and texts that came with pictures, which hold what models are evaluated with.

Brown et al., "Language models are few-shot learners" (2020), appendix C: 13 words in a row that an evaluation has too
are no accident, and entries of fewer than 8 words say nothing. Words are compared in lower case, without punctuation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from reelmill.curation.interfaces import Sample, Scorer
from reelmill.curation.scorers.minhash import simplified
from reelmill.curation.texts.prompt_lists import digest, entries
from reelmill.curation.texts.words import split_words
from reelmill.errors import ConfigError

Words = tuple[str, ...]


class Contamination(Scorer):
    """`contaminated_by`: name of the list (of its file, without the ending) of which a text holds an entry, or `words`
    words in a row of one; None where it holds none.

    The text of a text, and what came with a picture or a clip (`alt`), are looked at.
    """

    columns: ClassVar = {"contaminated_by": "VARCHAR"}
    kinds: ClassVar = ("video", "image", "text")

    @dataclass
    class Config:
        """Lists, and how much of an entry is enough."""

        lists: list[str] = field(default_factory=list)
        """Files: `.txt` (an entry a line), `.jsonl` (texts, or objects with a column of `columns`), `.parquet` (such a
        column)."""
        digests: list[str] = field(default_factory=list)
        """SHA-256 of each list; a list that has changed since is refused. Not checked where there are none."""
        words: int = 13
        """Words in a row that are enough; shorter entries are looked for whole."""
        least: int = 8
        """Entries of fewer words are not looked for."""
        columns: list[str] = field(default_factory=lambda: ["prompt", "text", "caption", "question"])
        """Columns of a list in which entries may lie; the first that there is."""

    def setup(self) -> None:
        """Read the lists. Raises ConfigError where one cannot be read or has changed."""
        if not 1 <= self.config.least <= self.config.words:
            raise ConfigError(
                f"contamination: least is {self.config.least}; it must be 1 to words, {self.config.words}"
            )
        for name, known in zip(self.config.lists, self.config.digests, strict=False):
            if digest(Path(name)) != known:
                raise ConfigError(f"{name} has changed; give it as --exclude again, with --update")
        self._grams = Grams(self.config.least)
        for name in self.config.lists:
            self._grams.add(Path(name).stem, entries(Path(name), self.config.columns), self.config.words)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample."""
        texts = (sample.text if sample.text is not None else sample.alt for sample in samples)
        return [{"contaminated_by": self._grams.found(text) if text else None} for text in texts]


class Grams:
    """Runs of words of lists, by their first `least` words: a text is walked once, whatever the lists hold."""

    def __init__(self, least: int) -> None:
        self._least = least
        self._runs: dict[Words, dict[Words, str]] = defaultdict(dict)

    def add(self, name: str, texts: Iterable[str], length: int) -> None:
        """Take in entries: each run of `length` words, or all of a shorter one."""
        for text in texts:
            words = _words(text)
            if len(words) >= self._least:
                for run in _windows(words, min(length, len(words))):
                    self._runs[run[: self._least]].setdefault(run, name)

    def found(self, text: str) -> str | None:
        """The list of the first run that the text holds."""
        words = _words(text)
        for place, first in enumerate(_windows(words, self._least)):
            for run, name in self._runs.get(first, {}).items():
                if words[place : place + len(run)] == run:
                    return name
        return None


def _words(text: str) -> Words:
    return tuple(split_words(simplified(text)))


def _windows(words: Words, length: int) -> Iterator[Words]:
    return (words[place : place + length] for place in range(len(words) - length + 1))
