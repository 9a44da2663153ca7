"""Animations (GIF, WebP, APNG, AVIF): the frames of an image file with their times, as those of a video."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from reelmill.errors import Refused
from reelmill.media.limits import Limits
from reelmill.media.moving import Decoded, Look, Moving
from reelmill.media.pictures import damage_refused, opened, srgb
from reelmill.media.source import Source

HEAD_FRAMES = 16
"""Frames that the frame rate is taken from."""
SHORTEST_MS = 10.0
UNSAID_MS = 100.0
"""How long a frame stays that is to stay SHORTEST_MS or less, as browsers show it."""


class Animation(Moving):
    """An opened animation. Raises Refused, also for a picture that does not move."""

    declared_s = None

    def __init__(self, source: Source, limits: Limits) -> None:
        self._limits = limits
        self._stack = ExitStack()
        self._image = self._stack.enter_context(opened(source, limits))
        if not self._image.is_animation:
            self.close()
            raise Refused("not_a_video: the picture does not move")
        with damage_refused():
            first = [self._shown(frame) for frame in islice(self._image.shown(), HEAD_FRAMES)]
        size = first[0][0].size
        self.facts = self._image.facts(*size)
        self.facts.fps = 1 / statistics.median(stays_s for _, stays_s in first)
        self.facts.frames = self.facts.clock_steps = 0
        self._look = Look(size, *size)

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def frames(self) -> Iterator[Decoded]:
        """All frames."""
        facts = self.facts
        pictures = self._image.shown()
        while True:
            with damage_refused():
                frame = next(pictures, None)
                if frame is None:
                    return
                picture, stays_s = self._shown(frame)
            time_s = facts.duration_s
            self._limits.check_duration(time_s, "decoded")
            facts.duration_s += stays_s
            facts.frames += 1
            pixels = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            yield Decoded(facts.frames - 1, time_s, pixels, self._look)

    def skip_to(self, time_s: float) -> None:
        """Nothing is left out: most frames need the one before."""

    def check_length(self) -> None:
        """A missing frame was an error before."""

    def _shown(self, frame: Image.Image) -> tuple[Image.Image, float]:
        """A frame as it is to be seen, and for how long, seconds."""
        picture = srgb(frame, self._image.coding)
        stays_ms = frame.info.get("duration") or 0.0
        return picture, (stays_ms if stays_ms > SHORTEST_MS else UNSAID_MS) / 1000
