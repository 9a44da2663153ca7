"""JPEG for comparison: a picture at the bit rate of a tokenizer's codes."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

QUALITIES = range(1, 96)


@dataclass(frozen=True)
class Jpeg:
    """A JPEG: its quality setting, the bits per pixel of the whole file with headers, and its pixels, [H, W, 3]."""

    quality: int
    bits_per_pixel: float
    decoded: npt.NDArray[np.uint8]


def nearest_jpeg(picture: npt.NDArray[np.uint8], bits_per_pixel: float) -> Jpeg:
    """The JPEG of an [H, W, 3] picture whose bit rate is nearest to the given one; of several, the lowest quality.

    Huffman tables are optimized, chroma is subsampled 4:2:0. At low rates even quality 1 can be larger than requested.
    """
    pixels = picture.shape[0] * picture.shape[1]
    files = {quality: _encode(picture, quality) for quality in QUALITIES}
    best = min(QUALITIES, key=lambda quality: abs(len(files[quality]) * 8 / pixels - bits_per_pixel))
    return Jpeg(best, len(files[best]) * 8 / pixels, _decode(files[best]))


def _encode(picture: npt.NDArray[np.uint8], quality: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
    return buffer.getvalue()


def _decode(file: bytes) -> npt.NDArray[np.uint8]:
    from PIL import Image

    with Image.open(io.BytesIO(file), formats=["JPEG"]) as opened:
        return np.array(opened.convert("RGB"))
