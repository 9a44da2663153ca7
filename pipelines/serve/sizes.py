"""Sizes of pictures as clients state them."""

from __future__ import annotations

import math
import re

from reelmill.errors import ConfigError
from reelmill.eval.generation import Studio
from reelmill.tokenize.documents import grid_for_ratio

AUTO = "auto"


def grid_of(size: str, area: int, studio: Studio) -> tuple[int, int]:
    """Rows and columns of codes of `WIDTHxHEIGHT` in pixels, a ratio such as `16:9`, or `auto`, which is square.

    Raises ConfigError for more than `area` pixels.
    """
    cell, layout = studio.vision.spatial, studio.vocab.layout
    if size == AUTO or ":" in size:
        return grid_for_ratio("1:1" if size == AUTO else size, area, cell, layout)
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size, re.ASCII)
    if found is None:
        raise ConfigError(f"size is {size[:40]!r}; give WIDTHxHEIGHT in pixels, a ratio such as 16:9, or auto")
    w, h = (max(1, round(int(side) / cell)) for side in found.groups())
    if h * w * cell**2 > area:
        side = math.isqrt(area)
        raise ConfigError(
            f"size is {size}; this server allows at most {area:,} pixels (such as {side}x{side}): ask for fewer, or "
            "start it with a larger --area"
        )
    return h, w
