"""Small rendered videos with known facts, for the tests of decoding."""

from fractions import Fraction

import av
import numpy as np


def textured(seed, height=120, width=160):
    """A smooth random picture, uint8 [h, w, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3)).astype(np.float32)
    rows = np.linspace(0, 5, height)
    columns = np.linspace(0, 7, width)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    bottom, right = np.minimum(top + 1, 5), np.minimum(left + 1, 7)
    y, x = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = coarse[top][:, left] * (1 - x) + coarse[top][:, right] * x
    lower = coarse[bottom][:, left] * (1 - x) + coarse[bottom][:, right] * x
    return (upper * (1 - y) + lower * y).astype(np.uint8)


def scene_frames(scenes, height=120, width=160):
    """Frames of scenes [(seed, length)]: each a textured picture that drifts by a pixel a frame."""
    for seed, length in scenes:
        picture = textured(seed, height, width + length)
        for i in range(length):
            yield np.ascontiguousarray(picture[:, i : i + width])


def write_video(path, frames, fps=24, codec="libx264", times=None, options=None, aspect=None):
    """Encode RGB frames; `times` (seconds) makes a variable rate."""
    with av.open(str(path), "w") as container:
        stream = None
        for i, frame in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec, rate=fps)
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = options or {"crf": "18", "g": "12", "threads": "1"}
                if times is not None:
                    stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
                if aspect is not None:
                    stream.codec_context.sample_aspect_ratio = aspect
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = i if times is None else round(times[i] * 1000)
            picture.time_base = Fraction(1, fps) if times is None else Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path
