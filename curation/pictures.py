"""The size at which a model looks at a picture; `picture_job.py` decodes one at that size."""

from __future__ import annotations

import math
from dataclasses import dataclass

PICTURE_JOB = "reelmill.curation.picture_job:picture"
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
