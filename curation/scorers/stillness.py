"""What of a clip stands still: screens and slides, and frames that are shown twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from reelmill.curation.interfaces import Sample, Scorer

NOISE = 4
"""Luma by which a pixel that stands still differs from frame to frame: compression noise."""
SAME = 0.25
"""Mean luma in which two native frames differ when the second is the first shown again: encoders leave a little."""


class Stillness(Scorer):
    """`static_share`: share of the frame that does not change between neighboring sampled frames, the mean over them:
    near 1 for slides and screen recordings; None for less than two.

    `repeated_frames`: share of native frames that are the one before shown again, among the runs; None without runs,
    and where no sampled frame differs from the one before, for then nothing moves that could stop.
    """

    columns: ClassVar = {"static_share": "DOUBLE", "repeated_frames": "DOUBLE"}
    kinds: ClassVar = ("video",)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample."""
        return [self._score(sample.frames.images, sample.frames.runs) for sample in samples]

    def _score(self, images: npt.NDArray[np.uint8], runs: npt.NDArray[np.uint8]) -> dict[str, float | None]:
        steps = [_change(before, after) for before, after in pairwise(images)]
        static = float(np.mean([(step <= NOISE).mean() for step in steps])) if steps else None
        moves = any(step.mean() > SAME for step in steps)
        if not moves or not len(runs):
            return {"static_share": static, "repeated_frames": None}
        native = np.abs(np.diff(runs.astype(np.int16), axis=1)).mean(axis=(2, 3))
        return {"static_share": static, "repeated_frames": float((native <= SAME).mean())}


def _change(before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """The largest change of each pixel's colors [H, W]."""
    return np.asarray(np.abs(before.astype(np.int16) - after).max(axis=-1), np.int16)
