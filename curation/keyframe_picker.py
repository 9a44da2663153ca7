"""Key frames of long videos: which frames stand for a scene (Emu3.5's report, section 3.1.1).

A scene shorter than t gives the frame in its middle, a longer one a frame every t seconds. Emu3.5 discloses neither t
nor how a frame is taken; what follows is ours. Of the frames sampled around a wanted time the sharpest is taken, never
one at a cut; one of black, or one that repeats the last, is left out with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from reelmill.curation.keyframes import KeyframesConfig, Problem

Rgb = npt.NDArray[np.uint8]
_SMALL = (32, 18)


@dataclass(frozen=True)
class Candidate:
    """A sampled frame: seconds, and the picture, uint8 [h, w, 3]."""

    time_s: float
    image: Rgb


@dataclass(frozen=True)
class Keyframe:
    """A key frame with its scene and measures: `sharpness` (variance of the Laplacian), mean luma, and the difference
    to the last one that was kept (255 for the first)."""

    candidate: Candidate
    scene_start_s: float
    scene_end_s: float
    sharpness: float
    luma: float
    difference: float
    problem: Problem


class KeyframePicker:
    """Picks the key frames of scenes, one after another; remembers the last one that was kept."""

    def __init__(self, config: KeyframesConfig) -> None:
        self._config = config
        self._last: npt.NDArray[np.float32] | None = None

    def scene(self, start_s: float, end_s: float, candidates: Sequence[Candidate]) -> list[Keyframe]:
        """The key frames of a scene, with those that are left out, in order of time."""
        config = self._config
        margin = min(config.margin_s, (end_s - start_s) / 4)
        inside = [c for c in candidates if start_s + margin <= c.time_s < end_s - margin] or list(candidates)
        picked: list[Candidate] = []
        for wanted_s in wanted_times(start_s, end_s, config.every_s):
            near = [c for c in inside if abs(c.time_s - wanted_s) <= config.window_s / 2]
            near = near or sorted(inside, key=lambda c: abs(c.time_s - wanted_s))[:1]
            fresh = [c for c in near if not picked or c.time_s > picked[-1].time_s]
            if fresh:
                picked.append(max(fresh, key=lambda c: sharpness(c.image)))
        return [self._judged(candidate, start_s, end_s) for candidate in picked]

    def _judged(self, candidate: Candidate, start_s: float, end_s: float) -> Keyframe:
        luma = cv2.cvtColor(candidate.image, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(luma, _SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
        difference = 255.0 if self._last is None else float(np.abs(small - self._last).mean())
        mean = float(luma.mean())
        problem = Problem.NONE
        if mean < self._config.black:
            problem = Problem.BLACK
        elif difference <= self._config.same:
            problem = Problem.REPEATS
        else:
            self._last = small
        return Keyframe(candidate, start_s, end_s, sharpness(candidate.image), mean, difference, problem)


def wanted_times(start_s: float, end_s: float, every_s: float) -> list[float]:
    """The middle of a scene shorter than `every_s`, else the middles of as many equal parts as fit, in seconds."""
    parts = max(int((end_s - start_s) / every_s + 1e-6), 1)
    step = (end_s - start_s) / parts
    return [start_s + (part + 0.5) * step for part in range(parts)]


def sharpness(image: Rgb) -> float:
    """Variance of the Laplacian of luma: the larger, the sharper, among frames of one scene."""
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())
