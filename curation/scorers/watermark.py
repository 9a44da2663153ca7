"""Watermarks, logos and written-in text: edges that stay in their place while the picture under them moves.

The median of a pixel's gradient over the frames is what does not move (Dekel, Rubinstein, Liu and Freeman, "On the
Effectiveness of Visible Watermarks", CVPR 2017, section 3): the picture's own edges come and go, those of an overlay
stay, a transparent one's too. A line along which the camera goes stays as well, but has one direction. Where the camera
stands everything stays, and nothing can be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from reelmill.curation.borders import Box, content_box, cropped
from reelmill.curation.interfaces import Sample, Scorer

Picture = npt.NDArray[np.float32]

NOISE = 0.3
"""Levels a pixel by which the edges of a picture that stands differ from frame to frame."""
LEAST_FRAMES = 6
"""With fewer, what moves slowly seems to stay."""
EDGE = 4.0
"""Levels a pixel by which luma has to change at an edge; H.264 at crf 30 leaves about one."""
STEADY = 1.5
"""How many times the median of an edge is its typical departure from it."""
CELLS = 8
"""Parts of a side: most parts of the frame that have edges have to move, or else the camera stands."""
MOVES = 0.5
"""How many times the median of an edge is its typical departure from it where the picture moves."""
LEAST_EDGES = 4
"""Pixels of edges in a frame with which a part has something to see."""
RIM = 0.01
"""Shorter sides along the rim that are left out: the picture's own end is an edge that stays."""
WINDOW = 0.05
"""Shorter sides around an edge in which there have to be edges of other directions."""
CORNERS = 0.15
"""Energy of the weaker direction of edges over that of the stronger: a line along which the camera goes stays too."""
JOINED = 0.03
"""Shorter sides between strokes of one mark."""
LEAST_SIDE = 0.03
"""Shorter sides that a mark is wide or high at least."""
FILLED = 0.12
"""Share of a mark's box that is edges at least: letters and logos are dense, a line that happens to stay is not."""


class _Mark(NamedTuple):
    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        return (self.right - self.left) * (self.bottom - self.top)


class Watermark(Scorer):
    """`watermark_area`: share of the frame in boxes around edges that stay while the picture moves, 0 where there are
    none; `watermark_left`, `watermark_top`, `watermark_right`, `watermark_bottom`: the largest of the boxes, as shares
    of the sides, right and bottom exclusive, None where there is none.

    All are None where nothing can be told: with less than six frames, and where the camera stands.
    """

    columns: ClassVar = {
        "watermark_area": "DOUBLE",
        "watermark_left": "DOUBLE",
        "watermark_top": "DOUBLE",
        "watermark_right": "DOUBLE",
        "watermark_bottom": "DOUBLE",
    }
    kinds: ClassVar = ("video",)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample."""
        return [self._score(sample.frames.images) for sample in samples]

    def _score(self, images: npt.NDArray[np.uint8]) -> dict[str, float | None]:
        found: dict[str, float | None] = dict.fromkeys(self.columns)
        if len(images) < LEAST_FRAMES:
            return found
        box = content_box(images)
        steady = _steady_edges(cropped(images, box))
        if steady is None:
            return found
        marks = _marks(steady)
        found["watermark_area"] = box.area * sum(mark.area for mark in marks) / steady.size
        if marks:
            found |= _place(max(marks, key=lambda mark: mark.area), steady.shape, box)
        return found


def _steady_edges(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_] | None:
    """Where an edge stays [H, W]; None where the picture does not move."""
    gradients = np.stack([_gradient(image) for image in images])
    middle = np.median(gradients, axis=0)
    strength = np.hypot(middle[0], middle[1])
    departure = np.median(np.hypot(gradients[:, 0] - middle[0], gradients[:, 1] - middle[1]), axis=0)
    steadiness = strength / (departure + NOISE)
    frames_with_edge = (np.hypot(gradients[:, 0], gradients[:, 1]) >= EDGE).sum(axis=0)
    if not _moves(steadiness, frames_with_edge, len(images)):
        return None
    steady = (strength >= EDGE) & (steadiness >= STEADY)
    rim = max(round(RIM * min(steady.shape)), 1)
    steady[:rim] = steady[-rim:] = steady[:, :rim] = steady[:, -rim:] = False
    return np.asarray(steady & _has_corners(middle * steady), np.bool_)


def _has_corners(gradients: Picture) -> npt.NDArray[np.bool_]:
    """Where the gradients [2, H, W] around a pixel have several directions, by their tensor's eigenvalues."""
    right, down = gradients
    side = round(WINDOW * min(right.shape)) | 1
    xx, yy, xy = (cv2.boxFilter(part, -1, (side, side)) for part in (right * right, down * down, right * down))
    spread = np.sqrt((xx - yy) ** 2 + 4 * xy**2)
    return np.asarray(xx + yy - spread >= CORNERS * (xx + yy + spread), np.bool_)


def _moves(steadiness: Picture, frames_with_edge: npt.NDArray[np.int64], frames: int) -> bool:
    """Whether the edges move in most parts of the frame; each part counts the same, so that a large mark does not."""
    height, width = steadiness.shape
    found = []
    for rows in np.array_split(np.arange(height), CELLS):
        for columns in np.array_split(np.arange(width), CELLS):
            part = np.ix_(rows, columns)
            weights = frames_with_edge[part].ravel()
            if weights.sum() >= LEAST_EDGES * frames:
                found.append(_weighted_median(steadiness[part].ravel(), weights))
    return bool(found) and float(np.median(found)) < MOVES


def _weighted_median(values: Picture, weights: npt.NDArray[np.int64]) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _gradient(image: npt.NDArray[np.uint8]) -> Picture:
    """Steps of luma [2, H, W], in levels a pixel, to the right and down."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    steps = np.stack([cv2.Scharr(luma, cv2.CV_32F, 1, 0), cv2.Scharr(luma, cv2.CV_32F, 0, 1)])
    return np.asarray(steps / 32, np.float32)


def _marks(steady: npt.NDArray[np.bool_]) -> list[_Mark]:
    """Boxes around edges that lie close together."""
    shorter = min(steady.shape)
    reach = max(round(JOINED * shorter), 1)
    joined = cv2.dilate(steady.astype(np.uint8), np.ones((reach, reach), np.uint8))
    count, labels = cv2.connectedComponents(joined)
    found = []
    for label in range(1, count):
        rows, columns = np.nonzero(steady & (labels == label))
        mark = _Mark(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        long_enough = max(mark.right - mark.left, mark.bottom - mark.top) >= LEAST_SIDE * shorter
        if long_enough and len(rows) >= FILLED * mark.area and min(mark.right - mark.left, mark.bottom - mark.top) > 3:
            found.append(mark)
    return found


def _place(mark: _Mark, shape: tuple[int, ...], box: Box) -> dict[str, float | None]:
    height, width = shape[0], shape[1]
    across, down = (box.right - box.left) / width, (box.bottom - box.top) / height
    return {
        "watermark_left": box.left + mark.left * across,
        "watermark_top": box.top + mark.top * down,
        "watermark_right": box.left + mark.right * across,
        "watermark_bottom": box.top + mark.bottom * down,
    }
