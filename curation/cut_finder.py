"""PySceneDetect's detectors fed frame by frame, cuts settled early. Runs inside the untrusted child.

Its minimum scene of 0.6 s is kept, so that the cuts equal those of its command. Fades are found by ThresholdDetector;
where a content cut lies within 3 frames of a fade's middle, they are one event and the content cut stands.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode, SceneDetector, ThresholdDetector

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
        self._lag = math.ceil(DETECTOR_MIN_S * fps) + 3
        self._cuts: set[int] = set()
        self._fades: set[int] = set()
        self._index = -1
        self._finished = False

    def feed(self, bgr: npt.NDArray[np.uint8]) -> None:
        """The next frame, uint8 [h, w, 3] BGR, about 256 wide."""
        self._index += 1
        now = FrameTimecode(self._index, fps=self._fps)
        self._cuts.update(cut.frame_num for cut in self._cut_detector.process_frame(now, bgr))
        if self._fade_detector is not None:
            # The fade detector looks at the mean over pixels and channels alone: a picture of one pixel has it too.
            mean = np.array(cv2.mean(bgr)[:3])
            self._fades.update(cut.frame_num for cut in self._fade_detector.process_frame(now, mean))

    def finish(self) -> None:
        """No more frames: everything found is settled."""
        last = FrameTimecode(max(self._index, 0), fps=self._fps)
        self._cuts.update(cut.frame_num for cut in self._cut_detector.post_process(last))
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
        # Content cuts come at most `lag` frames late; a fade's cut comes when the picture is back.
        horizon = self._index - self._lag
        if self._fade_detector is not None and self._fade_detector.last_fade["type"] == "out":
            horizon = min(horizon, self._fade_detector.last_fade["frame"].frame_num - 1)
        return [c for c in found if c <= horizon - (near if c in fades else 0)]


class _Content(ContentDetector):  # type: ignore[misc]  # PySceneDetect has no types
    """PySceneDetect's detector; its frame score (mean absolute difference of hue, saturation and value) in one call of
    OpenCV, at a third of the cost of its own function, which has the same result."""

    # Overrides a method of its inside: were it renamed there, cuts would cost more and be the same.
    _last_hsv: npt.NDArray[np.uint8] | None = None

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: npt.NDArray[np.uint8]) -> float:
        hsv = cv2.cvtColor(frame_img, cv2.COLOR_BGR2HSV)
        last, self._last_hsv = self._last_hsv, hsv
        return 0.0 if last is None else cv2.norm(hsv, last, cv2.NORM_L1) / hsv.size


class _Adaptive(_Content, AdaptiveDetector):  # type: ignore[misc]
    pass


def _detector(config: ScenesConfig) -> SceneDetector:
    options: dict[str, Any] = {"min_scene_len": DETECTOR_MIN_S}
    if config.detector == "adaptive":
        if config.threshold is not None:
            options["adaptive_threshold"] = config.threshold
        return _Adaptive(**options)
    if config.threshold is not None:
        options["threshold"] = config.threshold
    return _Content(**options)
