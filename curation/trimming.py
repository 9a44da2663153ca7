"""What of a scene's frames is black or still: its ends are trimmed by it, and the share of frozen frames is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

BLOCKS = (32, 18)
"""Columns and rows of the blocks whose means are compared: noise of sensor and encoder is gone from a mean."""
SAME = 4
"""Levels, of 255, by which any block of a frame shown again differs at most: encoders still refine what stands. Where
anything moves, one of the blocks changes by tens of levels within STILL_S."""
STILL_S = 0.5
"""A picture that stands at least as long is frozen. Drawn animation holds its pictures for less, mostly."""


@dataclass(frozen=True)
class Seen:
    """What was seen of a frame. `is_same`: it shows the same as the one before, or as the first of such a row."""

    index: int
    time_s: float
    is_black: bool
    is_same: bool


class Watcher:
    """Looks at the frames of a video one after another."""

    def __init__(self, black_below: float) -> None:
        self._black_below = black_below
        self._shown: npt.NDArray[np.int16] | None = None

    def look(self, index: int, time_s: float, bgr: npt.NDArray[np.uint8]) -> Seen:
        """The next frame, uint8 [h, w, 3] BGR of any size.

        It is compared with the first frame of the row that shows the same: what changes slowly adds up, and is seen.
        """
        blocks = cv2.resize(bgr, BLOCKS, interpolation=cv2.INTER_AREA).astype(np.int16)
        is_same = self._shown is not None and bool(np.abs(blocks - self._shown).max() <= SAME)
        if not is_same:
            self._shown = blocks
        return Seen(index, time_s, float(blocks.mean()) < self._black_below, is_same)


def trimmed(frames: Sequence[Seen], end_s: float) -> tuple[float, float]:
    """Start and end of what is left of a scene, in seconds, without black and frozen frames at its ends.

    Of a picture that stands still one frame stays. A scene that is black or still from end to end stays whole.
    """
    first, last = 0, len(frames) - 1
    while True:
        begins, stops = _without_black(frames, first, last)
        begins, stops = _without_holds(frames, begins, stops, end_s)
        if (begins, stops) == (first, last):
            break
        first, last = begins, stops
    if first >= last:
        return frames[0].time_s, end_s
    return frames[first].time_s, _end_of(frames, last, end_s)


def frozen_share(frames: Sequence[Seen], end_s: float) -> float | None:
    """Share of the time in which a picture stands for at least STILL_S; None without frames."""
    if not frames:
        return None
    changes = [frame.time_s for n, frame in enumerate(frames) if n == 0 or not frame.is_same]
    shown = [after - before for before, after in pairwise([*changes, end_s])]
    return min(sum(length for length in shown if length >= STILL_S) / max(end_s - changes[0], 1e-9), 1.0)


def _without_black(frames: Sequence[Seen], first: int, last: int) -> tuple[int, int]:
    while first < last and frames[first].is_black:
        first += 1
    while last > first and frames[last].is_black:
        last -= 1
    return first, last


def _without_holds(frames: Sequence[Seen], first: int, last: int, end_s: float) -> tuple[int, int]:
    """Without the frames that only show the first and the last picture again, where they stand long enough."""
    moves = first
    while moves < last and frames[moves + 1].is_same:
        moves += 1
    if frames[moves].time_s - frames[first].time_s >= STILL_S:
        first = moves
    stops = last
    while stops > first and frames[stops].is_same:
        stops -= 1
    if _end_of(frames, last, end_s) - _end_of(frames, stops, end_s) >= STILL_S:
        last = stops
    return first, last


def _end_of(frames: Sequence[Seen], number: int, end_s: float) -> float:
    """When a frame leaves the screen."""
    return frames[number + 1].time_s if number + 1 < len(frames) else end_s
