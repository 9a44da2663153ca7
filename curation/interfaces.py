"""What scorers work on and what they are: samples, their decoded frames, and the contract of a scorer.

An *expander* turns an item's bytes into samples, in the untrusted child (`reelmill.curation.expanders`). A *scorer*
gets a batch of samples and returns columns; CONTRIBUTING.md shows one of about 40 lines. Caption sources and readers
have contracts of their own (`captions/contract.py`, `readers/contract.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from reelmill.curation.texts.words import Words, words_of
from reelmill.media.details import no_details

Kind = Literal["video", "image", "text", "audio"]
ColumnType = Literal["DOUBLE", "BIGINT", "VARCHAR", "BOOLEAN"]
VECTOR = "vector"
"""What a scorer that embeds gives beside its columns."""


@dataclass
class Frames:
    """What was decoded of one sample, once, for all scorers.

    `images`: uint8 [N, H, W, 3], RGB, upright, shorter side 256 unless the source is smaller; a video is sampled at 2
    frames/s, an image has N = 1, a text (`Sample.text`) and a file with sound alone have N = 0.
    `times`: float64 [N], seconds from the start of the source.
    `runs`: uint8 [M, 3, h, w], gray, three neighboring NATIVE frames beginning at a sampled frame (M <= N), as
    small as the cut detectors see it (256 wide as stored), never across a cut; they reveal shake.
    `details`: uint8 [N, 9, S, S], luma, squares of each frame's own pixels, not scaled (`media/details.py`); rows are
    rows as they are stored in a video.
    """

    images: npt.NDArray[np.uint8]
    times: npt.NDArray[np.float64]
    runs: npt.NDArray[np.uint8]
    details: npt.NDArray[np.uint8] = field(default_factory=no_details)


@dataclass
class Sample:
    """A span of an item: a clip, a whole image, text or recording. `columns` holds the scores made so far, `alt` is the
    text that came with the item, where any did, `text` what a text says."""

    sample_id: str
    item_id: str
    kind: Kind
    start_s: float
    end_s: float
    width: int
    height: int
    fps: float
    frames: Frames
    columns: dict[str, Any] = field(default_factory=dict)
    alt: str | None = None
    text: str | None = None

    @cached_property
    def words(self) -> Words:
        """The words of `text`, split once for all scorers."""
        return words_of(self.text or "")


class Scorer(ABC):
    """Columns from a batch of samples.

    A subclass states `columns`, and may state a nested dataclass `Config` (its options in a recipe, `self.config`),
    `kinds`, and `weights` (names of weight cards that it needs). `setup` runs once in a worker before the first batch.
    Timing, counts, batching and the capture of errors are the engine's. A score that cannot be measured is None, never
    a made-up number.

    Several scorers may measure the same thing in columns of their own. `shares` says which of its columns stands for a
    shared one, `{"motion_score": "motion_dis"}`; of a recipe's scorers the one of the highest `precedence` fills it,
    also where that one was skipped and left NULL.

    An expensive scorer may look cheaply first. `approximate` maps such a column to the one that holds its relative
    error e, 0 after an exact look: the rules allow for anything between v / (1 + e) and v * (1 + e). Where some
    value of that range would change whether the recipe's rules keep the sample, `refine` is asked for a nearer look,
    and again as long as the verdict is open and the error falls.
    """

    columns: ClassVar[Mapping[str, ColumnType]]
    kinds: ClassVar[tuple[Kind, ...]] = ("video", "image")
    weights: ClassVar[tuple[str, ...]] = ()
    shares: ClassVar[Mapping[str, str]] = {}
    precedence: ClassVar[int] = 0
    approximate: ClassVar[Mapping[str, str]] = {}
    embeds: ClassVar[bool] = False
    """Whether a dict may have `VECTOR` too, float16 [D] of unit length, which goes into the table `embeddings`
    with the column `embedding_model`."""
    version: ClassVar[int] = 0
    """Raised when the same options give other values; a part of the score fingerprint unless 0."""

    @dataclass
    class Config:
        """No options."""

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config

    def setup(self) -> None:  # noqa: B027  (optional hook)
        """Load weights and set threads; runs once in a worker."""

    @abstractmethod
    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample, in order, with every name of `columns`."""

    def refine(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """As `score`, by a nearer look than `Sample.columns` tell of; by an exact one where they tell of none."""
        return self.score(samples)
