"""Planes of decoded frames, as they lie in the decoder's memory."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from av.video.format import VideoFormat
from av.video.frame import VideoFrame


def plane(frame: VideoFrame, which: int) -> npt.NDArray[np.uint8]:
    """Plane [H, W] of a planar frame as a view of its memory; of values of more than 8 bits the upper 8."""
    found, bits = frame.planes[which], frame.format.components[which].bits
    values: npt.NDArray[np.uint8] = np.frombuffer(found, np.uint8)  # type: ignore[call-overload]
    if bits == 8:
        return values.reshape(found.height, -1)[:, : found.width]
    return (values.view("<u2").reshape(found.height, -1)[:, : found.width] >> (bits - 8)).astype(np.uint8)


def luma(frame: VideoFrame) -> npt.NDArray[np.uint8]:
    """Luma [H, W] of a frame as stored, in the range in which it is stored."""
    is_stored = is_planar_yuv(frame.format.name)
    return plane(frame, 0) if is_stored else frame.to_ndarray(format="gray").astype(np.uint8, copy=False)


@cache
def is_planar_yuv(pixels: str) -> bool:
    """Whether a pixel format has planes of Y, U and V, little end first."""
    kind = VideoFormat(pixels, 16, 16)
    return pixels.startswith("yuv") and kind.is_planar and not kind.is_big_endian and len(kind.components) >= 3
