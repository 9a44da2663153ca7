"""Details: small squares of a picture's own pixels, in which blur, noise and the traces of codecs show.

What scorers otherwise see is scaled down to a shorter side of 256, where all of these are gone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIDE = 96
"""Pixels of a square's side, unless the picture is smaller: twelve blocks of JPEG, six macroblocks."""
GRID = 3
SQUARES = GRID * GRID
_STEP = 16
"""Squares begin at multiples of a macroblock."""

Luma = npt.NDArray[np.uint8]


def details(luma: Luma) -> Luma:
    """Squares [9, S, S] of luma [H, W], in the middles of its ninths, row by row; S is SIDE, or the shorter side."""
    height, width = luma.shape
    side = min(SIDE, height, width)
    corners = [(top, left) for top in _starts(height, side) for left in _starts(width, side)]
    return np.stack([luma[top : top + side, left : left + side] for top, left in corners])


def no_details() -> Luma:
    """Details [0, 9, 1, 1] of no picture."""
    return np.zeros((0, SQUARES, 1, 1), np.uint8)


def _starts(length: int, side: int) -> list[int]:
    middles = [(2 * part + 1) * length / (2 * GRID) for part in range(GRID)]
    return [int(min(max(middle - side / 2, 0), length - side)) // _STEP * _STEP for middle in middles]
