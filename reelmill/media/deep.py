"""Pictures of more than 8 bits or with a matrix of their own: their values with all bits, which Pillow does not give.

Pillow hands out 8 bits, and of AVIF with BT.2020's matrix a blue that is up to a twentieth too dark.
"""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt

from reelmill.media.source import Source

DEMUXERS = {"AVIF": "mov", "PNG": "png_pipe"}
"""Pillow's formats that FFmpeg decodes with all their bits."""


def deep_values(source: Source, kind: str, size: tuple[int, int]) -> npt.NDArray[np.uint16] | None:
    """R'G'B' [H, W, 3] of full range, 0 to 65535, as stored; None where FFmpeg gives no whole picture of this size.

    An AVIF of several tiles is none: FFmpeg gives each by itself.
    """
    try:
        with source.open() as stream, av.open(stream, mode="r", format=DEMUXERS[kind]) as container:
            container.streams.video[0].codec_context.thread_count = 1
            frame = next(container.decode(video=0))
            if (frame.width, frame.height) != size:
                return None
            return frame.to_ndarray(format="rgb48le").astype(np.uint16, copy=False)
    except av.error.MemoryError:
        raise
    except (av.error.FFmpegError, LookupError, StopIteration, ValueError):
        return None
