"""PySceneDetect's detectors fed frame by frame, cuts settled early. Runs inside the untrusted child.

Its command's minimum scene of 0.6 s is kept. Of changes that lie closer than that the strongest is the cut, where the
command takes the last; elsewhere the cuts equal the command's. Fades are found by ThresholdDetector; where a content
cut lies within 3 frames of a fade's middle, they are one event and the content cut stands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode, ThresholdDetector

from reelmill.curation.scenes import ScenesConfig

DETECTOR_MIN_S = 0.6
"""The command's default minimum scene length (its Python API has another)."""
SAME_EVENT_FRAMES = 3


class CutFinder:
    """Feeds frames to the detectors and says which cuts are settled. Frame indices count from 0 without gaps."""

    def __init__(self, config: ScenesConfig, fps: float) -> None:
        self._fps = fps
        self._cut_detector = _detector(config)
        self._fade_detector = (
            ThresholdDetector(threshold=config.fade_threshold, min_scene_len=DETECTOR_MIN_S) if config.fades else None
        )
        self._apart = math.ceil(DETECTOR_MIN_S * fps - 1e-6)
        self._late = self._cut_detector.event_buffer_length  # frames after which a change at a frame is known
        self._changes: list[Change] = []  # the last ones, each less than a minimum scene from the one before
        self._cuts: set[int] = set()
        self._fades: set[int] = set()
        self._index = -1
        self._finished = False

    def feed(self, bgr: npt.NDArray[np.uint8]) -> None:
        """The next frame, uint8 [h, w, 3] BGR, about 256 wide."""
        self._index += 1
        now = FrameTimecode(self._index, fps=self._fps)
        for cut in self._cut_detector.process_frame(now, bgr):
            # The scene before the first cut has the minimum length too.
            if cut.frame_num >= self._apart:
                self._changes.append(Change(cut.frame_num, self._cut_detector.score_of(cut.frame_num)))
        if self._changes and self._index - self._late - self._changes[-1].frame >= self._apart:
            self._choose()
        if self._fade_detector is not None:
            # The fade detector looks at the mean over pixels and channels alone: a picture of one pixel has it too.
            mean = np.array(cv2.mean(bgr)[:3])
            self._fades.update(cut.frame_num for cut in self._fade_detector.process_frame(now, mean))

    def finish(self) -> None:
        """No more frames: everything found is settled."""
        self._choose()
        self._finished = True

    def settled(self, after: int) -> list[int]:
        """Cuts at a frame index above `after` that no later frame can change, ascending."""
        near = SAME_EVENT_FRAMES
        self._cuts = {cut for cut in self._cuts if cut > after - near}
        self._fades = {fade for fade in self._fades if fade > after}
        fades = {f for f in self._fades if not any(abs(f - cut) <= near for cut in self._cuts)}
        found = sorted(c for c in self._cuts | fades if after < c <= self._index)
        if self._finished:
            return found
        # A change is known a little late, and is no cut before all that it is compared with are known; a fade's cut
        # comes when the picture is back.
        horizon = self._index - self._late
        if self._changes:
            horizon = min(horizon, self._changes[0].frame - 1)
        if self._fade_detector is not None and self._fade_detector.last_fade["type"] == "out":
            horizon = min(horizon, self._fade_detector.last_fade["frame"].frame_num - 1)
        return [c for c in found if c <= horizon - (near if c in fades else 0)]

    def _choose(self) -> None:
        self._cuts.update(strongest(self._changes, self._apart))
        self._changes = []


class Change(NamedTuple):
    """A frame that differs from the one before by more than the threshold, and by how much."""

    frame: int
    score: float


def strongest(changes: Sequence[Change], apart: int) -> list[int]:
    """The frames of the strongest changes that lie at least `apart` frames from each other; of equals the earliest."""
    chosen: list[int] = []
    for change in sorted(changes, key=lambda change: (-change.score, change.frame)):
        if all(abs(change.frame - frame) >= apart for frame in chosen):
            chosen.append(change.frame)
    return sorted(chosen)


class _Content(ContentDetector):  # type: ignore[misc]  # PySceneDetect has no types
    """PySceneDetect's detector; its frame score (mean absolute difference of hue, saturation and value) in one call of
    OpenCV, at a third of the cost of its own function, which has the same result. Gives every frame above the
    threshold."""

    # Overrides a method of its inside: were it renamed there, `score_of` would know no score.
    _last_hsv: npt.NDArray[np.uint8] | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(min_scene_len=0, **options)
        self._scores: dict[int, float] = {}

    def score_of(self, frame: int) -> float:
        """By how much a frame differs from the one before; known of the last 8."""
        return self._scores[frame]

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: npt.NDArray[np.uint8]) -> float:
        hsv = cv2.cvtColor(frame_img, cv2.COLOR_BGR2HSV)
        last, self._last_hsv = self._last_hsv, hsv
        score = 0.0 if last is None else cv2.norm(hsv, last, cv2.NORM_L1) / hsv.size
        self._scores[timecode.frame_num] = score
        self._scores.pop(timecode.frame_num - 8, None)
        return score


class _Adaptive(_Content, AdaptiveDetector):  # type: ignore[misc]
    pass


def _detector(config: ScenesConfig) -> Any:
    given = {} if config.threshold is None else {"threshold": config.threshold}
    if config.detector == "adaptive":
        return _Adaptive(**{f"adaptive_{name}": value for name, value in given.items()})
    return _Content(**given)
