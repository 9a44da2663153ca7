"""Impossible colors: values of Y, U and V that no picture has.

Encoders make YUV of RGB, so what they write lies in a part of YUV's cube that is less than a quarter of it. A decoder
that has lost its place in the stream predicts on from nonsense, and soon gives values from anywhere in the cube. Codecs
without any redundancy (VP8, VP9, HEVC, HuffYUV) decode such streams without complaint.
"""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame

from reelmill.media.planes import is_planar_yuv, plane

MARGIN = 64
"""Levels, of 256, by which R, G or B must leave their range: more than ringing, and than another matrix, would."""
MOST_SAMPLES = 4096
"""Pixels of a frame that are looked at, on a grid."""


def impossible_share(frame: VideoFrame) -> float | None:
    """Share of the frame's colors that are impossible; None for frames that are not stored as planes of Y, U and V.

    R, G and B are taken by BT.601's matrix and full range, in which values of the limited range are possible too.
    """
    kind = frame.format.name
    if not is_planar_yuv(kind):
        return None
    rows, columns = frame.planes[1].height, frame.planes[1].width
    step = max(int((rows * columns / MOST_SAMPLES) ** 0.5 + 0.999), 1)
    u, v = (plane(frame, which)[::step, ::step].astype(np.int16) - 128 for which in (1, 2))
    down, across = -(-frame.height // rows) * step, -(-frame.width // columns) * step
    y = plane(frame, 0)[::down, ::across][: u.shape[0], : u.shape[1]].astype(np.int16)
    u, v = u[: y.shape[0], : y.shape[1]], v[: y.shape[0], : y.shape[1]]
    red, blue = (v * 45) >> 5, (u * 57) >> 5
    green = (u * 11 + v * 23) >> 5
    low = np.minimum(np.minimum(red, blue), -green) + y
    high = np.maximum(np.maximum(red, blue), -green) + y
    return float(np.count_nonzero((low < -MARGIN) | (high > 255 + MARGIN)) / low.size) if low.size else None
