"""Decode a picture to the size at which a model looks at it. Runs inside the untrusted child."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from reelmill.curation.pictures import LONGEST_SHAPE, PixelBounds, size_within
from reelmill.errors import Refused
from reelmill.isolation import wire
from reelmill.media.limits import Limits
from reelmill.media.pictures import open_picture
from reelmill.media.source import Source


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
