"""How videos are cut into scenes: the settings, the size at which cuts are looked for, long scenes divided evenly.

Frames come at the size to which PySceneDetect's own command reduces them (width 256). `cut_finder.py` finds the cuts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

DETECT_WIDTH = 256


@dataclass
class ScenesConfig:
    """How videos are cut into samples (Emu3 section 2.1: PySceneDetect's detectors; clips begin at 5 s).

    The default detector is the one with the higher F1 in `bench/cuts.py`; Emu3 names ContentDetector.
    """

    detector: Literal["content", "adaptive"] = "adaptive"
    """What finds cuts: `content` compares neighboring frames, `adaptive` compares that with the frames around."""
    threshold: float | None = None
    """Cut threshold; the detector's own default (27 content, 3 adaptive) when absent."""
    fades: bool = True
    """Whether a fade through black divides a scene too."""
    fade_threshold: float = 12.0
    """Mean brightness, of 255, below which a frame counts as black."""
    max_s: float = 20.0
    """Longer scenes are divided into equal parts of at most this length, seconds."""
    max_open_s: float = 300.0
    """A scene is closed here at the latest, so that memory does not grow with the video."""
    trim: bool = True
    """Whether black and frozen frames at a scene's ends are left out of its clips."""


def detect_size(width: int, height: int) -> tuple[int, int]:
    """The size at which the detectors look at a stored frame: width 256, aspect kept, never enlarged."""
    scale = max(width / DETECT_WIDTH, 1.0)
    return max(round(width / scale), 1), max(round(height / scale), 1)


def divide(start_s: float, end_s: float, max_s: float) -> list[tuple[float, float]]:
    """Equal parts, each at most `max_s` seconds long (to a microsecond), that cover [start_s, end_s)."""
    parts = max(math.ceil((end_s - start_s) / max_s - 1e-6), 1)
    step = (end_s - start_s) / parts
    bounds = [start_s + i * step for i in range(parts)] + [end_s]
    return list(pairwise(bounds))
