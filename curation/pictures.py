"""A picture at the size at which a model looks at it. The job runs inside the untrusted child."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from reelmill.errors import Refused
from reelmill.isolation import wire
from reelmill.media.limits import Limits
from reelmill.media.pictures import open_picture
from reelmill.media.source import Source

PICTURE_JOB = "reelmill.curation.pictures:picture"
LONGEST_SHAPE = 5.0
"""The longer side over the shorter one, at most (Emu3's released processor raises beyond)."""


@dataclass
class PixelBounds:
    """Pixels of a picture that a model is shown; the defaults are Emu3's for understanding (section 2.5.2)."""

    least: int = 512 * 512
    """A smaller picture is enlarged to this."""
    most: int = 1024 * 1024
    """A larger picture is shrunk to this."""


def size_within(height: int, width: int, bounds: PixelBounds, multiple: int) -> tuple[int, int]:
    """(height, width) with the shape kept, sides multiples of `multiple`, their product within the bounds.

    Emu3's rule (its released image processor): each side is rounded to the nearest multiple; a product over `most` is
    scaled down to it and the sides rounded down, one under `least` scaled up and rounded up.
    """
    h, w = round(height / multiple) * multiple, round(width / multiple) * multiple
    if h * w > bounds.most:
        scale = math.sqrt(height * width / bounds.most)
        return tuple(max(multiple, math.floor(side / scale / multiple) * multiple) for side in (height, width))  # type: ignore[return-value]
    if h * w < bounds.least:
        scale = math.sqrt(bounds.least / (height * width))
        return tuple(math.ceil(side * scale / multiple) * multiple for side in (height, width))  # type: ignore[return-value]
    return h, w


def picture(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The image by `size_within` of `options` least, most and multiple; `frames` is uint8 [1, H, W, 3]."""
    image, _ = open_picture(source, Limits.of(options))
    width, height = image.size
    if max(width, height) > LONGEST_SHAPE * min(width, height):
        raise Refused(f"too_long: {width}x{height}, one side may be {LONGEST_SHAPE:g} times the other")
    bounds = PixelBounds(options["least"], options["most"])
    h, w = size_within(height, width, bounds, options["multiple"])
    resized = image.resize((w, h), Image.Resampling.BICUBIC)
    yield {"type": "picture"}, {"frames": np.asarray(resized)[None]}
