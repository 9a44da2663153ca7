"""Which frames of a long video are key frames, and why one is left out; `keyframe_picker.py` picks them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from reelmill.config import free


@dataclass
class KeyframesConfig:
    """Which frames of a video are key frames, for the expander of narrated videos."""

    every_s: float = 4.0
    """Scenes shorter than this give one key frame, longer ones one for each such stretch: t of Emu3.5, which discloses
    only the mean of 0.27 key frames a second. Scenes that last give 0.25, cuts add to it."""
    window_s: float = 1.0
    """The sharpest of the frames sampled within half of this before and after the wanted time is taken."""
    margin_s: float = 0.2
    """Frames this close to a cut are left alone: they may belong to the transition."""
    black: float = 16.0
    """Mean luma, of 255, below which a frame is black."""
    same: float = 2.5
    """Mean difference of luma, of 255, in a picture of 32 x 18, up to which a frame repeats the last one kept."""
    span_s: float = 1800.0
    """A sample ends with the first scene after so many seconds, so that memory does not grow with the video."""
    keep: bool = free(True)
    """Whether pictures of key frames stay in the run folder until documents are made of them, instead of being decoded
    again: about 0.15 MB each of 688 x 384 pixels, of grainy film three times that."""


class Problem(IntEnum):
    """Why a key frame is left out; 0 where it is not."""

    NONE = 0
    BLACK = 1
    REPEATS = 2
