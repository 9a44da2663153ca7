"""The inputs of an evaluation: pictures cropped to squares, and the beginnings of videos at a fixed frame rate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError
from reelmill.train.vision.media import MediaFile, frames_at, read_picture

Frames = npt.NDArray[np.uint8]


def picture_at(source: MediaFile, size: int) -> Frames:
    """A picture resized to a shorter side of `size` and cropped to the square in its middle, [1, size, size, 3].

    Raises DataError if the picture is smaller.
    """
    picture = read_picture(source, size)
    _require_size(source, picture.shape[1], picture.shape[2], size)
    return center_crop(picture, size)


def clip_at(source: MediaFile, size: int, fps: float, seconds: float) -> Frames:
    """The first `seconds` of a video, resized to a shorter side of `size`, [T, H, W, 3].

    At each time k / fps it takes the frame on screen; there are fewer than fps x seconds if the video is shorter.
    Raises DataError if the frames are smaller, or if there are fewer than two.
    """
    frames: list[Frames] = []
    for frame in frames_at(source, fps, size, seconds):
        _require_size(source, frame.shape[0], frame.shape[1], size)
        frames.append(frame)
    if len(frames) < 2:
        raise DataError(f"{source.name or source.path} has fewer than two frames at {fps:g} frames/s")
    return np.stack(frames)


def center_crop(frames: Frames, size: int) -> Frames:
    """The middle [T, size, size, 3] of [T, H, W, 3]."""
    top, left = ((side - size) // 2 for side in frames.shape[1:3])
    cropped: Frames = frames[:, top : top + size, left : left + size].copy()
    return cropped


def _require_size(source: MediaFile, height: int, width: int, size: int) -> None:
    if min(height, width) < size:
        raise DataError(f"{source.name or source.path} is {width}x{height}, smaller than {size}")
