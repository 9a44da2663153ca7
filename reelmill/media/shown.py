"""The frames of a video at given times: the picture that is then on the screen."""

from __future__ import annotations

from reelmill.errors import Refused
from reelmill.media.moving import Decoded, Moving

SKIP_GAP_S = 1.5
"""Frames are left out, where that can be done, when nothing is wanted for longer than this."""


class Shown:
    """The frame on the screen at a time; times must not go back by more than a frame."""

    def __init__(self, video: Moving) -> None:
        self._video = video
        self._frames = video.frames()
        self._now = self._next(None)
        self._after = self._next(self._now)

    def at(self, time_s: float) -> Decoded:
        """The frame at `time_s`; the first or the last one outside of the video."""
        if time_s - self._after.time_s > SKIP_GAP_S:
            self._video.skip_to(time_s)
        while self._after is not self._now and self._after.time_s <= time_s + 1e-6:
            self._now = self._after
            self._after = self._next(self._now)
        return self._now

    def is_over(self, time_s: float) -> bool:
        """Whether the video ends at `time_s` or before, which must have been asked for."""
        return self._after is self._now and time_s >= self._video.end_s - 1e-6

    def _next(self, last: Decoded | None) -> Decoded:
        """The following frame; the last one again at the end of the file."""
        decoded = next(self._frames, last)
        if decoded is None:
            raise Refused("no_frames: nothing could be decoded")
        return decoded
