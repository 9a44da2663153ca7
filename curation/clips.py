"""Clips for tokenization: kept spans decoded again, at token resolution and rate. Runs inside the untrusted child."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from reelmill.isolation import wire
from reelmill.media.limits import Limits
from reelmill.media.moving import Renderer
from reelmill.media.opening import open_moving
from reelmill.media.pictures import open_picture
from reelmill.media.shown import Shown
from reelmill.media.source import Source

TICK_FRAMES = 50
FILTER = "bicubic"

VIDEO_JOB = "reelmill.curation.clips:video_clips"
IMAGE_JOB = "reelmill.curation.clips:image_clip"
TEXT_JOB = "reelmill.curation.expanders.text:text_clip"


def video_clips(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """One message a clip of `options["clips"]`, in the order of their starts.

    A clip is `{"key", "start_s", "fps", "frames", "width", "height"}`; frame k is the picture on the screen at
    start_s + k / fps. Yields `{"type": "clip", "key"}` with `frames` uint8 [T, H, W, 3].
    """
    clips = sorted(options["clips"], key=lambda clip: clip["start_s"])
    video = open_moving(source, Limits.of(options))
    renderer = Renderer()
    try:
        shown = Shown(video)
        for clip in clips:
            frames = np.empty((clip["frames"], clip["height"], clip["width"], 3), np.uint8)
            for k in range(clip["frames"]):
                decoded = shown.at(clip["start_s"] + k / clip["fps"])
                frames[k] = renderer.upright(decoded, clip["width"], clip["height"], FILTER)
                if k % TICK_FRAMES == 0:
                    yield wire.tick(decoded.time_s, video.declared_s)
            yield {"type": "clip", "key": clip["key"]}, {"frames": frames}
    finally:
        video.close()


def image_clip(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The image at the size of its one clip; `frames` is uint8 [1, H, W, 3]."""
    (clip,) = options["clips"]
    image, _ = open_picture(source, Limits.of(options))
    resized = image.resize((clip["width"], clip["height"]), Image.Resampling.BICUBIC)
    yield {"type": "clip", "key": clip["key"]}, {"frames": np.asarray(resized)[None]}


def decode_only(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """Decode every frame and throw it away: the floor of what a video can cost. Yields `cpu_s` and `media_s`."""
    began = time.process_time()
    video = open_moving(source, Limits.of(options))
    try:
        for decoded in video.frames():
            if decoded.index % TICK_FRAMES == 0:
                yield {"type": "tick"}, {}
    finally:
        video.close()
    yield {"type": "floor", "cpu_s": time.process_time() - began, "media_s": video.end_s}, {}
