"""Which way up a stored picture is, what shape its pixels have, and sizes that keep the shape."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WIDEST_PIXEL = 10.0
"""A pixel that is said to be wider or higher than this many times its other side is taken to be square."""


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways in which a picture can lie: rows and columns exchanged first, then sides mirrored."""

    transposed: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def of_matrix(cls, matrix: bytes) -> Orientation:
        """The nearest one to a display matrix: nine native 32-bit integers (a b u c d v x y w).

        It takes a stored point (p, q) to (a p + c q, b p + d q); y grows downwards (ISO/IEC 14496-12, 6.2.2).
        """
        a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    def upright(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """A stored picture, [H, W] or [H, W, C], as it is to be seen."""
        if self == UPRIGHT:
            return picture
        turned = picture.swapaxes(0, 1) if self.transposed else picture
        return np.ascontiguousarray(turned[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1])

    def swap(self, width: int, height: int) -> tuple[int, int]:
        """Width and height before or after turning."""
        return (height, width) if self.transposed else (width, height)


UPRIGHT = Orientation()


def displayed(width: int, height: int, aspect: float, orientation: Orientation) -> tuple[int, int]:
    """(width, height) as displayed, of a stored size with pixels `aspect` times as wide as high."""
    if not 1 / WIDEST_PIXEL <= aspect <= WIDEST_PIXEL:
        aspect = 1.0
    return orientation.swap(max(round(width * aspect), 1), height)


def code_grid(width: int, height: int, area: int, cell: int, *, whole_pixels: bool) -> tuple[int, int]:
    """(rows, columns) of codes, each of `cell` x `cell` pixels, for a picture scaled to an area in pixels.

    0 where it is too narrow for one. Emu3's rule (`calculate_generate_size`) rounds sides to the nearest code, half to
    even; with `whole_pixels`, as in Emu3.5's (`smart_resize`), fractions of a pixel are dropped, then half goes up.
    """
    area = max(area, 0)
    if not whole_pixels:
        scale = math.sqrt(area / (width * height))
        return round(height * scale / cell), round(width * scale / cell)
    aspect = width / height
    high = int(math.sqrt(area / aspect))
    return (high + cell // 2) // cell, (int(high * aspect) + cell // 2) // cell


def fit(width: int, height: int, short_side: int, long_side: float = math.inf) -> tuple[int, int]:
    """Size with the aspect kept, shorter side at most `short_side`, longer at most `long_side`, never enlarged."""
    scale = min(1.0, short_side / min(width, height), long_side / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)
