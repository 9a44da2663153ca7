"""A video becomes scenes: one sequential pass feeds the cut detectors and the sampled frames of all scorers."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from reelmill.config import from_dict
from reelmill.curation.decode import Decoded, Video, fit, limits
from reelmill.curation.scenes import CutFinder, ScenesConfig, detect_size, divide
from reelmill.errors import Refused
from reelmill.isolation import wire
from reelmill.media.source import Source

RUN = 3
TICK_S = 1.0


@dataclass
class _Sampled:
    index: int
    time_s: float
    image: wire.Array
    run: list[wire.Array] = field(default_factory=list)


def expand(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """Samples of a video, scene by scene; memory is bounded by `scenes.max_open_s`, not by the video."""
    cv2.setNumThreads(1)
    scenes = from_dict(ScenesConfig, options["scenes"])
    video = Video(source, limits(options))
    try:
        yield from _expand(video, scenes, options)
        video.check_length()
    finally:
        video.close()
    if video.end_s == 0.0:
        raise Refused("no_frames: nothing could be decoded")
    facts = {"width": video.width, "height": video.height, "fps": video.fps, "duration_s": video.end_s}
    yield {"type": "item", **facts, "codec": video.codec, "sha256": sha256(source)}, {}


def _expand(video: Video, scenes: ScenesConfig, options: dict[str, Any]) -> Iterator[wire.Message]:
    finder = CutFinder(scenes, video.fps)
    sampler = _Sampler(video, options["sample_fps"], options["short_side"], options["long_side"])
    times: deque[tuple[int, float]] = deque()  # (index, seconds) of the frames since the open scene began
    start = 0
    ticked = time.monotonic()
    for decoded in video.frames():
        small = video.small(decoded.frame, *_detect_size(decoded))
        finder.feed(small)
        sampler.feed(decoded, small)
        times.append((decoded.index, decoded.time_s))
        for cut in finder.settled(after=start):
            yield from _close(video, sampler, times, cut, scenes)
            start = cut
        if times and decoded.time_s - times[0][1] >= scenes.max_open_s:
            yield from _close(video, sampler, times, decoded.index, scenes)
            start = decoded.index
        if time.monotonic() - ticked > TICK_S:
            ticked = time.monotonic()
            yield {"type": "tick"}, {}
    finder.finish()
    for cut in finder.settled(after=start):
        yield from _close(video, sampler, times, cut, scenes)
    if times:
        yield from _samples(video, sampler.take(None), times[0][1], video.end_s, scenes)


def _close(
    video: Video, sampler: _Sampler, times: deque[tuple[int, float]], cut: int, scenes: ScenesConfig
) -> Iterator[wire.Message]:
    """End the open scene before frame `cut`."""
    start_s = times[0][1]
    while times[0][0] < cut:
        times.popleft()
    yield from _samples(video, sampler.take(cut), start_s, times[0][1], scenes)


def _samples(
    video: Video, sampled: list[_Sampled], start_s: float, end_s: float, scenes: ScenesConfig
) -> Iterator[wire.Message]:
    for start, end in divide(start_s, end_s, scenes.max_s):
        inside = [s for s in sampled if start <= s.time_s < end]
        runs = [np.stack(s.run) for s in inside if len(s.run) == RUN]
        arrays = {
            "images": np.stack([s.image for s in inside]) if inside else np.zeros((0, 1, 1, 3), np.uint8),
            "times": np.array([s.time_s for s in inside], np.float64),
            "runs": np.stack(runs) if runs else np.zeros((0, RUN, 1, 1), np.uint8),
        }
        size = {"width": video.width, "height": video.height, "fps": video.fps}
        yield {"type": "sample", "start_s": start, "end_s": end, **size}, arrays


class _Sampler:
    """Keeps frames at a fixed rate, and a run of neighbouring native frames at each."""

    def __init__(self, video: Video, rate: float, short_side: int, long_side: int) -> None:
        self._video, self._step = video, 1.0 / rate
        self._sides = (short_side, long_side)
        self._next = 0
        self._kept: list[_Sampled] = []

    def feed(self, decoded: Decoded, small: wire.Array) -> None:
        """The next frame, and the BGR picture of it that the cut detectors saw: runs are made of those."""
        video = self._video
        if decoded.time_s >= self._next * self._step - 1e-6:
            self._next = int(decoded.time_s / self._step + 1e-6) + 1
            size = fit(video.width, video.height, *self._sides)
            image = video.upright(decoded.frame, *size, "rgb24", best=False)
            self._kept.append(_Sampled(decoded.index, decoded.time_s, image))
        if self._kept:
            last = self._kept[-1]
            if len(last.run) < RUN and decoded.index == last.index + len(last.run):
                last.run.append(video.turned(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)))

    def take(self, cut: int | None) -> list[_Sampled]:
        """The frames kept before frame `cut` (all, for None), without runs that cross it."""
        taken = [s for s in self._kept if cut is None or s.index < cut]
        self._kept = [s for s in self._kept if cut is not None and s.index >= cut]
        for sampled in taken:
            if cut is not None and sampled.index + RUN > cut:
                sampled.run = []
        return taken


def _detect_size(decoded: Decoded) -> tuple[int, int]:
    return detect_size(decoded.frame.width, decoded.frame.height)


def sha256(source: Source) -> str:
    """Hex SHA-256 of an item's bytes."""
    with source.open() as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
