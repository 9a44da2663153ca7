"""Media for whoever is handed a file: pictures and frames, decoded in the untrusted child.

Imports neither PyAV nor Pillow: those are the child's.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError, MachineError
from reelmill.isolation.messages import FACTS, FRAMES, PICTURE, Kinds
from reelmill.isolation.parent import Child, IsolationConfig, ItemFailed
from reelmill.media.limits import Limits
from reelmill.media.source import Place

Frames = npt.NDArray[np.uint8]
PICTURE_JOB = "reelmill.media.jobs:picture"
FRAMES_JOB = "reelmill.media.jobs:frames"
FACTS_JOB = "reelmill.media.jobs:video_facts"
NATURAL = 1 << 20
"""A side that no picture has: nothing is shrunk."""


class MediaReader:
    """Decodes whole files in children that start when they are needed. Use as a context manager, or `close` it.

    Every method raises DataError for a file that cannot be used, naming it and the reason, and MachineError when the
    child failed for another cause.
    """

    def __init__(self, limits: Limits | None = None, isolation: IsolationConfig | None = None) -> None:
        self._limits = limits or Limits()
        self._isolation = isolation or IsolationConfig(item_s=math.inf)  # a person waits, and can stop
        self._idle: list[Child] = []
        self._owner = os.getpid()

    def __enter__(self) -> MediaReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return MediaReader, (self._limits, self._isolation)

    def close(self) -> None:
        """End the children that wait for work."""
        while self._idle and self._owner == os.getpid():
            self._idle.pop().close()

    def picture(self, source: Place, short_side: int = NATURAL, long_side: int = NATURAL) -> Frames:
        """[1, H, W, 3] upright sRGB, transparency over white, shrunk to these sides."""
        ((_, arrays),) = self._run(PICTURE_JOB, source, PICTURE, {"short_side": short_side, "long_side": long_side})
        frames: Frames = arrays["frames"]
        return frames

    def length(self, source: Place) -> tuple[float, float]:
        """(seconds, frames/s) that a video declares; 0 seconds when it does not say."""
        ((body, _),) = self._run(FACTS_JOB, source, FACTS, {})
        return body["seconds"], body["fps"]

    def every_frame(
        self, source: Place, short_side: int, start_s: float = 0.0, end_s: float | None = None, most: int | None = None
    ) -> Frames:
        """[T, H, W, 3]: the frames of a video from `start_s` on as they come; T is 0 where there are none."""
        options = {"start_s": start_s, "end_s": end_s, "most": most, "fps": None, "short_side": short_side}
        found = [arrays["frames"] for _, arrays in self._run(FRAMES_JOB, source, FRAMES, options)]
        return np.concatenate(found) if found else np.empty((0, 1, 1, 3), np.uint8)

    def frames_at(
        self,
        source: Place,
        fps: float,
        short_side: int = NATURAL,
        start_s: float = 0.0,
        seconds: float = math.inf,
    ) -> Iterator[Frames]:
        """Each [H, W, 3]: what is on the screen at start_s + k / fps, for `seconds` or to the end; decoded as asked."""
        most = None if math.isinf(seconds) else max(round(fps * seconds), 1)
        options = {"start_s": start_s, "most": most, "fps": fps, "short_side": short_side}
        for _, arrays in self._run(FRAMES_JOB, source, FRAMES, options):
            yield from arrays["frames"]

    def _run(self, job: str, source: Place, kinds: Kinds, options: dict[str, Any]) -> Iterator[Any]:
        """Messages of a job; of jobs that run at the same time each has a child."""
        if self._owner != os.getpid():  # after a fork: the children are the other process's
            self._idle, self._owner = [], os.getpid()
        child = self._idle.pop() if self._idle else Child(self._isolation)
        try:
            yield from child.run(job, source, {**asdict(self._limits), **options}, kinds)
        except ItemFailed as failure:
            kind = DataError if failure.reason_class == "item" else MachineError
            raise kind(f"{source.path} cannot be used: {failure.reason}") from None
        finally:
            self._idle.append(child)
