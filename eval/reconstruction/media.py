"""What is reconstructed: pictures cut to squares, and the beginnings of videos at a fixed rate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError
from reelmill.train.vision.media import Source, frames_at, read_picture

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
    frames: list[Frames] = []
    for frame in frames_at(source, fps, size, seconds):
        _refuse_smaller(source, frame.shape[0], frame.shape[1], size)
        frames.append(frame)
    if len(frames) < 2:
        raise DataError(f"{source.name or source.path} has fewer than two frames at {fps:g} frames/s")
    return np.stack(frames)


def centre(frames: Frames, size: int) -> Frames:
    """The middle [T, size, size, 3] of [T, H, W, 3]."""
    top, left = ((side - size) // 2 for side in frames.shape[1:3])
    middle: Frames = frames[:, top : top + size, left : left + size].copy()
    return middle


def _refuse_smaller(source: Source, height: int, width: int, size: int) -> None:
    if min(height, width) < size:
        raise DataError(f"{source.name or source.path} is {width}x{height}, smaller than {size}")
