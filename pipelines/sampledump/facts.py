"""What is known of every rendered item of the sample dump: the answer that `reelmill curate` with recipe `sample` owes.

The product never reads these facts; tests and benchmarks compare its ledger with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MIN_SCENE_S = 2.0
"""Shortest clip that recipe `sample` keeps, seconds (Emu3 begins at 5 s)."""
MAX_SCENE_S = 10.0
"""Longest clip of recipe `sample`, seconds; longer scenes are divided evenly."""

Kind = Literal["video", "image", "text"]
Rule = Literal[
    "duration", "resolution", "image_resolution", "text", "motion", "jitter", "colour", "quality", "exact_duplicate"
]

Side = Literal["low", "high"]


@dataclass(frozen=True)
class SampleFact:
    """One sample: its span in seconds, and the rule that rejects it (None: kept).

    `side` says which bound of the rule is broken, where it has two.
    """

    start_s: float
    end_s: float
    rule: Rule | None = None
    side: Side | None = None


@dataclass(frozen=True)
class ItemFact:
    """One item. `reason` is the refusal's keyword, empty for a done item.

    `cuts` are the first frames of all scenes but the first. `width` and `height` are as displayed (rotation applied), 0
    where the item is refused.
    """

    uri: str
    kind: Kind
    status: Literal["done", "refused"] = "done"
    reason: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    cuts: tuple[int, ...] = ()
    samples: tuple[SampleFact, ...] = ()
    duplicate_of: str | None = None
    caption: str = ""


@dataclass(frozen=True)
class Verdict:
    """Why the scenes of a video are rejected, all alike."""

    rule: Rule
    side: Side | None = None


def scene_samples(
    lengths: Sequence[int], fps: float, verdict: Verdict | None, black: Sequence[tuple[float, float]]
) -> tuple[SampleFact, ...]:
    """Samples of a video whose scenes are `lengths` frames long: long scenes divided, short ones rejected.

    `black` are the seconds at the beginning and the end of each scene that no sample has.
    """
    samples = []
    start = 0
    for length, (before_s, after_s) in zip(lengths, black, strict=True):
        start_s, seconds = start / fps + before_s, length / fps - before_s - after_s
        parts = max(math.ceil(seconds / MAX_SCENE_S - 1e-6), 1)
        for part in range(parts):
            span = (start_s + part * seconds / parts, start_s + (part + 1) * seconds / parts)
            if seconds / parts < MIN_SCENE_S:
                samples.append(SampleFact(*span, "duration", "low"))
            elif verdict is not None:
                samples.append(SampleFact(*span, verdict.rule, verdict.side))
            else:
                samples.append(SampleFact(*span))
        start += length
    return tuple(samples)
