"""The contract of whoever says what was spoken: sound in, segments with words and their times out.

A `Transcriber` hears clips of an item's speech. `subtitles` (`subtitles.py`) hears nothing and is not one. What is
lacking, decoding, checks and commits are the engine's (`orchestration/transcribe.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from reelmill.config import nearest
from reelmill.curation.captions.contract import NoOptions, Resources
from reelmill.curation.speech.config import TranscriptConfig
from reelmill.errors import ConfigError
from reelmill.media.audio import Samples
from reelmill.registry import find_class

SUBTITLES = "subtitles"
TRANSCRIBERS: Mapping[str, str] = {
    "whisper": "reelmill.curation.speech.whisper:WhisperTranscriber",
    "endpoint": "reelmill.curation.speech.endpoint:EndpointTranscriber",
}


@dataclass(frozen=True)
class Word:
    """A word and when it is said, in seconds of the item; `probability` where the model gives one."""

    text: str
    start_s: float
    end_s: float
    probability: float | None = None


@dataclass(frozen=True)
class Segment:
    """What was said without a break, seconds of the item, and how sure the model is."""

    start_s: float
    end_s: float
    text: str
    words: Sequence[Word] = field(default_factory=list)
    language: str | None = None
    no_speech: float | None = None
    logprob: float | None = None


@dataclass(frozen=True)
class Clip:
    """Speech of at most 30 s: int16 samples at 16 kHz that begin at `start_s` of the item."""

    start_s: float
    samples: Samples


class TranscriptionFailed(Exception):
    """The model could not be asked about an item; a rerun asks again."""


class Transcriber(ABC):
    """Transcribes items. A subclass of reelmill's own states a dataclass `Config` with a text `model`: its options."""

    Config: ClassVar[type[Any]] = NoOptions

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config

    def address(self) -> str:
        """The address of a model that is asked over a network, empty for others."""
        return ""

    def resources(self) -> Resources | None:
        """What a model needs that runs in the workers; None where the recipe's own workers do."""
        return None

    def check(self, table: str) -> None:  # noqa: B027  (optional hook)
        """Raise ConfigError for options that cannot be used; `table` is their place in the recipe."""

    def require(self) -> None:  # noqa: B027  (optional hook)
        """Raise WeightsError where weights are missing; asked once, before workers start and only if there is work."""

    def setup(self) -> None:  # noqa: B027  (optional hook)
        """Load the model; runs once in a worker."""

    @abstractmethod
    def transcribe(self, clips: Sequence[Clip]) -> list[Segment]:
        """What is said in the clips of one item, in order. Raises TranscriptionFailed, and ConfigError where an option
        must be wrong."""


def check(config: TranscriptConfig) -> None:
    """Raise ConfigError for sources or options that cannot be used."""
    if len(set(config.sources)) < len(config.sources):
        raise ConfigError(f"transcripts.sources names a source twice: {', '.join(config.sources)}")
    for name in config.sources:
        if name != SUBTITLES and name not in TRANSCRIBERS and ":" not in name:
            known = [SUBTITLES, *TRANSCRIBERS]
            raise ConfigError(f"transcripts.sources: unknown {name!r}; {nearest(name, known)}, or package.module:Class")
        if name != SUBTITLES:
            transcriber(name, config).check(f"transcripts.{name}")


def transcriber(name: str, config: TranscriptConfig) -> Transcriber:
    """A transcriber by its name, with its table of the recipe's `[transcripts]`. ConfigError when there is none."""
    cls = find_class("transcript source", name, TRANSCRIBERS, Transcriber)  # type: ignore[type-abstract]
    return cls(getattr(config, name, None) if name in TRANSCRIBERS else None)
