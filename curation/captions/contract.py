"""The contract of a caption source: a class with options that captions samples, with a model or without one.

A `Captioner` makes a caption of a sample's row. A `ModelCaptioner` is shown frames; which model it asks is the `model`
in its table of the recipe, and a row of `captions` names it. The name of a source in the recipe is its
`caption_source`. What is lacking, decoding, prompts, checks and commits are the engine's
(`orchestration/caption.py`, `orchestration/model_captions.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

Row = Mapping[str, Any]
"""A row of the `samples` view: all measured columns, the verdict, `uri` and `alt` of the item."""


@dataclass
class NoOptions:
    """The options of a source that has none."""


class CaptionSource:
    """What both kinds share. A subclass may state a dataclass `Config`: its options (`self.config`)."""

    Config: ClassVar[type[Any]] = NoOptions

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config

    def check(self, table: str) -> None:
        """Raise ConfigError for options that cannot be used; `table` is their place in the recipe."""


class Captioner(CaptionSource, ABC):
    """A caption from what is known of a sample."""

    @abstractmethod
    def caption(self, row: Row) -> str | None:
        """A caption of a video or an image, or None."""


@dataclass(frozen=True)
class Question:
    """A sample to caption. `parts`: JPEG files of its frames in the order of time; a long clip has several parts, each
    of which is captioned by itself."""

    row: Row
    prompt: str
    parts: list[list[bytes]]


@dataclass(frozen=True)
class Answer:
    """A model's text about one part; `cut_off` when it ran into its limit of tokens."""

    text: str
    cut_off: bool


@dataclass(frozen=True)
class Reply:
    """What became of a question: an answer per part, or a failure, after which a rerun asks again."""

    question: Question
    answers: Sequence[Answer] = ()
    failure: str = ""


@dataclass(frozen=True)
class AnswerSettings:
    """The recipe's settings for all models: the longest answer, in tokens, and the most frames of a part."""

    max_tokens: int
    temperature: float
    frames: int


@dataclass(frozen=True)
class Resources:
    """Worker processes of a model's own, and GPUs of each (a share, or several)."""

    workers: int
    gpus: float


class Unavailable(Exception):
    """Raised by `ask` when going on is useless: what is not answered yet fails with this message."""


class ModelCaptioner(CaptionSource, ABC):
    """Captions by a model that sees frames. Its `Config` has a text field `model`."""

    def resources(self) -> Resources | None:
        """What a model needs that runs in the workers; None where the recipe's own workers do."""
        return None

    def address(self) -> str:
        """The address of a model that is asked over a network, empty for others."""
        return ""

    def setup(self, settings: AnswerSettings) -> None:
        """Load the model; runs once in a worker. Raises ConfigError or DataError where it cannot be loaded."""

    @abstractmethod
    def ask(self, questions: Iterator[Question]) -> Iterable[Reply]:
        """One reply per question, in any order. Frames are decoded as `questions` is advanced, in any one thread at a
        time. Raises Unavailable, and ConfigError where an option must be wrong."""
