"""What the camera does: stands, pans, tilts, zooms, rolls or shakes, by the flow that most of the frame follows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from reelmill.curation.interfaces import Sample, Scorer
from reelmill.curation.scorers.motion import dis_flow, fast_dis

GRID = 12
"""Pixels between the points whose flow is looked at."""
AGREE = 0.5
"""Share of the points that have to follow one movement; with fewer it is the scene that moves."""
STILL = 0.01
"""Shorter sides a second below which the camera stands."""
TURNS = 0.3
"""A camera that shakes gets this share of its way or less: the rest it goes back."""


class _Movement(NamedTuple):
    """Shorter sides a second to the right and down that the picture moves, and how it grows and turns at its rim."""

    right: float
    down: float
    growth: float
    turn: float


class Camera(Scorer):
    """`camera`: `static`, `pan`, `tilt`, `zoom`, `roll` or `shake`, what moves most of the frame most; None where
    no movement is common to half of it, and for less than two frames.

    `camera_pan`, `camera_tilt`, `camera_zoom`, `camera_roll`: how far it goes, in shorter sides a second, the median
    over the pairs of neighboring frames: to the right, down, in, clockwise. Zoom and roll are those of the rim, half a
    shorter side from the center.
    """

    columns: ClassVar = {
        "camera": "VARCHAR",
        "camera_pan": "DOUBLE",
        "camera_tilt": "DOUBLE",
        "camera_zoom": "DOUBLE",
        "camera_roll": "DOUBLE",
    }
    kinds: ClassVar = ("video",)

    def setup(self) -> None:
        """Build the flow algorithm."""
        self.dis = fast_dis()

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample."""
        return [self._score(sample) for sample in samples]

    def _score(self, sample: Sample) -> dict[str, Any]:
        images, times = sample.frames.images, sample.frames.times
        grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
        found = [
            _movement(dis_flow(self.dis, before, after), float(later - earlier))
            for (before, after), (earlier, later) in zip(pairwise(grey), pairwise(times), strict=True)
        ]
        known = np.array([movement for movement in found if movement is not None])
        if not len(known) or len(known) < len(found) / 2:
            return dict.fromkeys(self.columns)
        middle = np.median(known, axis=0)
        # The picture moves to the left when the camera goes to the right.
        right, down, growth, turn = middle * (-1, -1, 1, -1)
        speeds = {"camera_pan": right, "camera_tilt": down, "camera_zoom": growth, "camera_roll": turn}
        return {"camera": _name(known, middle), **{name: float(speed) for name, speed in speeds.items()}}


def _movement(flow: npt.NDArray[np.float32], seconds: float) -> _Movement | None:
    """The similarity that most of the flow [H, W, 2] follows."""
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[GRID // 2 : height : GRID, GRID // 2 : width : GRID]
    places = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float32)
    matrix, inliers = cv2.estimateAffinePartial2D(
        places, places + flow[rows.ravel(), columns.ravel()], ransacReprojThreshold=1.5
    )
    if matrix is None or inliers.mean() < AGREE:
        return None
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = matrix[:, :2] @ center + matrix[:, 2] - center
    shorter = min(height, width)
    growth, turn = np.hypot(*matrix[:, 0]) - 1, np.arctan2(matrix[1, 0], matrix[0, 0])
    right, down = shift / shorter / seconds
    return _Movement(right, down, growth / 2 / seconds, turn / 2 / seconds)


def _name(known: npt.NDArray[np.float64], middle: npt.NDArray[np.float64]) -> str:
    way = np.abs(known).mean(axis=0)
    if way.max() < STILL:
        return "static"
    largest = int(way.argmax())
    if abs(known[:, largest].mean()) < TURNS * way[largest]:
        return "shake"
    return "static" if np.abs(middle).max() < STILL else ("pan", "tilt", "zoom", "roll")[largest]
