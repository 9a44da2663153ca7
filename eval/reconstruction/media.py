"""What is reconstructed: pictures cut to squares, and the beginnings of videos at a fixed rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError
from reelmill.train.vision.media import Source, read_picture

Frames = npt.NDArray[np.uint8]


def picture_at(source: Source, size: int) -> Frames:
    """[1, size, size, 3]: a picture with its shorter side at `size`, cut to the square in its middle.

    Raises DataError when the picture is smaller than that.
    """
    picture = read_picture(source, size)
    _refuse_smaller(source, picture.shape[1], picture.shape[2], size)
    return centre(picture, size)


def clip_at(source: Source, size: int, fps: float, seconds: float) -> Frames:
    """[T, H, W, 3]: the first `seconds` of a video, whole frames whose shorter side is `size`.

    At each k/fps the frame that is then on screen; fewer than fps x seconds when the video ends before. Raises
    DataError when the frames are smaller than `size` or there is no second one.
    """
    import av

    end_s = math.inf if source.end_s is None else source.end_s
    wanted = round(fps * min(seconds, end_s - source.start_s))
    frames: list[Frames] = []
    with source.open() as stream, av.open(stream, "r") as container:
        if not container.streams.video:
            raise DataError(f"{source.name or source.path} has no video stream")
        video = container.streams.video[0]
        _refuse_smaller(source, video.height, video.width, size)
        scale = size / min(video.width, video.height)
        width, height = round(video.width * scale), round(video.height * scale)
        if source.start_s > 0 and video.time_base:
            container.seek(int(source.start_s / video.time_base), stream=video)
        begin = None
        for frame, until in _shown(container.decode(video), float(video.average_rate or fps)):
            begin = max(source.start_s, frame.time or 0.0) if begin is None else begin
            while len(frames) < wanted and begin + len(frames) / fps < until - 1e-6:
                frames.append(frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray())
            if len(frames) == wanted:
                break
    if len(frames) < 2:
        raise DataError(f"{source.name or source.path} has fewer than two frames at {fps:g} frames/s")
    return np.stack(frames)


def _shown(frames: Iterable[Any], rate: float) -> Iterator[tuple[Any, float]]:
    """Decoded frames, each with the time in seconds until which it is on screen."""
    last = None
    for frame in frames:
        if last is not None:
            yield last, frame.time or 0.0
        last = frame
    if last is not None:
        yield last, (last.time or 0.0) + 1 / rate


def centre(frames: Frames, size: int) -> Frames:
    """The middle [T, size, size, 3] of [T, H, W, 3]."""
    top, left = ((side - size) // 2 for side in frames.shape[1:3])
    middle: Frames = frames[:, top : top + size, left : left + size].copy()
    return middle


def _refuse_smaller(source: Source, height: int, width: int, size: int) -> None:
    if min(height, width) < size:
        raise DataError(f"{source.name or source.path} is {width}x{height}, smaller than {size}")
