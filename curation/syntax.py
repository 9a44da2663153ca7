"""Sentences by a spaCy pipeline, which divides by syntax what has no punctuation to go by (Emu3.5's report, 3.1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from reelmill.errors import ConfigError, brief

_NOT_NEEDED = ["ner", "lemmatizer", "attribute_ruler"]


def sentence_starts(pipeline: str, words: Sequence[str], text: str) -> set[int]:
    """Which of the words begin a sentence, by their places. `text`: the words in order, with or without blanks between.

    Raises ConfigError where spaCy or the pipeline is not installed.
    """
    begins: dict[int, int] = {}
    at = 0
    for place, word in enumerate(words):
        at = text.index(word, at)
        begins[at] = place
        at += len(word)
    starts = (sentence.start_char for sentence in _loaded(pipeline)(text).sents)
    return {begins[start] for start in starts if start in begins}  # none begins inside a word


def require(pipeline: str) -> None:
    """Raise ConfigError where spaCy or the pipeline is not installed."""
    _loaded(pipeline)


@cache
def _loaded(pipeline: str) -> Any:
    try:
        import spacy
    except ImportError as error:
        raise ConfigError(
            f"tokens.narration.spacy = {pipeline!r} needs spaCy: pip install 'reelmill[spacy]' ({error})"
        ) from None
    try:
        return spacy.load(pipeline, exclude=_NOT_NEEDED)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"tokens.narration.spacy: spaCy cannot load {pipeline!r}: {brief(error)}; install it, such as with "
            f"python -m spacy download {pipeline}"
        ) from None
