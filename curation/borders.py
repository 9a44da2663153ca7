"""Borders: bars and margins of one color around the picture, which are no part of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FLAT = 6.0
"""Luma by which a line of a bar differs from the bar's color, at most: JPEG and H.264 leave a little noise."""
LINES_AT_ONCE = 8
"""Lines that are looked at together: most frames have no border, and end with the first of them."""
LEAST = 0.4
"""Share of a side that a picture has at least: what leaves less is a picture on a plain ground, not a border."""


class Box(NamedTuple):
    """The picture within a frame, as shares of its sides; right and bottom are exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Share of the frame."""
        return (self.right - self.left) * (self.bottom - self.top)


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


def content_box(images: npt.NDArray[np.uint8]) -> Box:
    """Where the picture of frames [N, H, W, 3] is: whatever is no border in some frame belongs to it."""
    lows, highs = [], []
    for image in images:
        luma = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        top, bottom = _between(luma)
        left, right = _between(luma[top:bottom].T)
        lows.append((left, top))
        highs.append((right, bottom))
    height, width = images.shape[1:3]
    (left, top), (right, bottom) = np.min(lows, axis=0), np.max(highs, axis=0)
    found = Box(left / width, top / height, right / width, bottom / height)
    is_picture = found.right - found.left >= LEAST and found.bottom - found.top >= LEAST
    return found if is_picture else WHOLE


def cropped(images: npt.NDArray[np.uint8], box: Box) -> npt.NDArray[np.uint8]:
    """The part of frames [N, H, W, 3] within a box."""
    height, width = images.shape[1:3]
    rows = slice(round(box.top * height), round(box.bottom * height))
    return images[:, rows, round(box.left * width) : round(box.right * width)]


def _between(luma: npt.NDArray[np.float32]) -> tuple[int, int]:
    """First line that is no border, and the first of the border after it; all lines where there is nothing else."""
    before, after = _border(luma), _border(luma[::-1])
    return (before, len(luma) - after) if before + after < len(luma) else (0, len(luma))


def _border(luma: npt.NDArray[np.float32]) -> int:
    """How many first lines have one color: that of the first."""
    ground = np.median(luma[0])
    for begin in range(0, len(luma), LINES_AT_ONCE):
        lines = luma[begin : begin + LINES_AT_ONCE]
        is_picture = np.percentile(np.abs(lines - ground), 98, axis=1) > FLAT
        if is_picture.any():
            return begin + int(np.argmax(is_picture))
    return len(luma)
