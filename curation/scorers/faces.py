"""Faces, and whether one large face stays where it is: talking heads, which Emu3.5 leaves out of its long videos.

Emu3.5 (section 3.1.1) finds them by a face detector and a classifier, and discloses neither bound. Here MTCNN finds the
faces; what is large and what is steady is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from reelmill.curation.interfaces import Sample, Scorer
from reelmill.curation.scorers.mtcnn import WEIGHTS, Mtcnn

_SAME_PLACE = 0.3
"""Boxes that share this much of what they cover together are in the same place."""


class Faces(Scorer):
    """`face_count`: faces a frame, the mean; `face_area`: the largest one's share of the picture, the mean, 0 in a
    frame without; `face_steady`: the share of frames with a large face in its usual place, the large ones' median box.
    """

    columns: ClassVar = {"face_count": "DOUBLE", "face_area": "DOUBLE", "face_steady": "DOUBLE"}
    weights: ClassVar = WEIGHTS

    @dataclass
    class Config:
        """Which faces are looked for, and where."""

        smallest: float = 0.1
        """Height of the smallest face that is found, as a share of the picture's shorter side."""
        large: float = 0.02
        """Share of the picture from which a face counts as large."""
        frames: int = 32
        """Evenly spaced frames that are examined, at most."""

    def setup(self) -> None:
        """Load the three networks."""
        self._mtcnn = Mtcnn()

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample; None without frames."""
        return [self._score(sample.frames.images) for sample in samples]

    def _score(self, images: npt.NDArray[np.uint8]) -> dict[str, float | None]:
        if not len(images):
            return dict.fromkeys(self.columns)
        height, width = images.shape[1:3]
        chosen = np.linspace(0, len(images) - 1, min(len(images), self.config.frames)).round().astype(int)
        smallest = max(round(self.config.smallest * min(height, width)), 1)
        found = [self._mtcnn(image, smallest)[:, :4] / [width, height, width, height] for image in images[chosen]]
        largest = np.array([boxes[_areas(boxes).argmax()] if len(boxes) else np.zeros(4) for boxes in found])
        areas = _areas(largest)
        return {
            "face_count": float(np.mean([len(boxes) for boxes in found])),
            "face_area": float(areas.mean()),
            "face_steady": _steady(largest, areas >= self.config.large),
        }


def _steady(boxes: npt.NDArray[np.float64], is_large: npt.NDArray[np.bool_]) -> float:
    """The share of frames whose box is large and in the median place of those that are."""
    if not is_large.any():
        return 0.0
    usual = np.median(boxes[is_large], axis=0)
    corner, end = np.maximum(boxes[:, :2], usual[:2]), np.minimum(boxes[:, 2:], usual[2:])
    shared = np.clip(end - corner, 0, None).prod(axis=1)
    together = _areas(boxes) + _areas(usual[None]) - shared
    return float(np.mean(is_large & (shared >= _SAME_PLACE * together)))


def _areas(boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), np.float64)
