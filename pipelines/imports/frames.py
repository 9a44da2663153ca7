"""Frames of videos, asked for one after another, each at the size at which a model looks at a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reelmill.curation.pictures import PixelBounds, size_within
from reelmill.errors import DataError
from reelmill.pipelines.imports.chat_rows import Frame
from reelmill.tokenize.vision import Frames
from reelmill.train.vision.media import frames_at, media_file


class FrameReader:
    """Decodes in a child process. A video is opened once while its frames are asked for in rising order."""

    def __init__(self, bounds: PixelBounds, multiple: int) -> None:
        self._bounds, self._multiple = bounds, multiple
        self._playing: tuple[Path, float] | None = None
        self._frames: Iterator[Frames] = iter(())
        self._number = -1
        self._last: Frames | None = None

    def frame(self, path: Path, asked: Frame) -> Frames:
        """[H, W, 3] uint8; DataError where the file is no video or ends before."""
        if self._playing != (path, asked.rate) or asked.number < self._number:
            self._playing = (path, asked.rate)
            self._frames, self._number, self._last = frames_at(media_file(path), asked.rate, 1 << 14), -1, None
        while self._number < asked.number:
            self._last = next(self._frames, None)
            self._number += 1
            if self._last is None:
                raise DataError(f"{path.name} ends before {asked.number / asked.rate:.2f} s")
        assert self._last is not None
        return self._resized(self._last)

    def _resized(self, frame: Frames) -> Frames:
        import cv2

        h, w = size_within(frame.shape[0], frame.shape[1], self._bounds, self._multiple)
        how = cv2.INTER_AREA if h < frame.shape[0] else cv2.INTER_CUBIC
        resized: Frames = np.asarray(cv2.resize(frame, (w, h), interpolation=how))
        return resized
