"""Clips for tokenization: kept spans decoded again, at token resolution and rate. Runs inside the untrusted child."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from reelmill.curation.decode import Decoded, Video, limits
from reelmill.curation.expanders.image import open_image
from reelmill.curation.expanders.text import read_text
from reelmill.errors import Refused
from reelmill.isolation import wire
from reelmill.media.source import Source

SEEK_GAP_S = 5.0
TICK_FRAMES = 50

VIDEO_JOB = "reelmill.curation.clips:video_clips"
IMAGE_JOB = "reelmill.curation.clips:image_clip"
TEXT_JOB = "reelmill.curation.clips:text_clip"


def video_clips(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """One message a clip of `options["clips"]`, in the order of their starts.

    A clip is `{"key", "start_s", "fps", "frames", "width", "height"}`; frame k is the picture on the screen at
    start_s + k / fps. Yields `{"type": "clip", "key"}` with `frames` uint8 [T, H, W, 3].
    """
    clips = sorted(options["clips"], key=lambda clip: clip["start_s"])
    video = Video(source, limits(options))
    try:
        shown = _Shown(video)
        for clip in clips:
            frames = np.empty((clip["frames"], clip["height"], clip["width"], 3), np.uint8)
            for k in range(clip["frames"]):
                decoded = shown.at(clip["start_s"] + k / clip["fps"])
                frames[k] = video.upright(decoded.frame, clip["width"], clip["height"], "rgb24", best=True)
                if k % TICK_FRAMES == 0:
                    yield {"type": "tick"}, {}
            yield {"type": "clip", "key": clip["key"]}, {"frames": frames}
    finally:
        video.close()


def image_clip(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The image at the size of its one clip; `frames` is uint8 [1, H, W, 3]."""
    (clip,) = options["clips"]
    image = open_image(source, options)
    resized = image.resize((clip["width"], clip["height"]), Image.Resampling.BICUBIC)
    yield {"type": "clip", "key": clip["key"]}, {"frames": np.asarray(resized)[None]}


def text_clip(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The words of a text, as `text`."""
    (clip,) = options["clips"]
    yield {"type": "clip", "key": clip["key"], "text": read_text(source, options)}, {}


def decode_only(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """Decode every frame and throw it away: the floor of what a video can cost. Yields `cpu_s` and `media_s`."""
    began = time.process_time()
    video = Video(source, limits(options))
    try:
        for decoded in video.frames():
            if decoded.index % TICK_FRAMES == 0:
                yield {"type": "tick"}, {}
    finally:
        video.close()
    yield {"type": "floor", "cpu_s": time.process_time() - began, "media_s": video.end_s}, {}


class _Shown:
    """The frame on the screen at a time; times must not go back by more than a frame. Seeks over long gaps."""

    def __init__(self, video: Video) -> None:
        self._video = video
        self._frames = video.frames()
        self._now = self._next(None)
        self._after = self._next(self._now)

    def at(self, time_s: float) -> Decoded:
        if time_s - self._now.time_s > SEEK_GAP_S:
            self._seek(time_s)
        while self._after is not self._now and self._after.time_s <= time_s + 1e-6:
            self._now = self._after
            self._after = self._next(self._now)
        return self._now

    def _seek(self, time_s: float) -> None:
        """Jump to the keyframe before `time_s` where the file's index allows it; else go on decoding."""
        video = self._video
        if not video.seekable:
            return
        self._frames = video.frames_from(time_s)
        first = self._next(None)
        if first.time_s > time_s:  # the index is wrong: begin again and read everything
            self._frames = video.frames_from(0.0)
            first = self._next(None)
        self._now = first
        self._after = self._next(first)

    def _next(self, last: Decoded | None) -> Decoded:
        """The following frame; the last one again at the end of the file."""
        decoded = next(self._frames, last)
        if decoded is None:
            raise Refused("no_frames: nothing could be decoded")
        return decoded
