"""Drawing primitives: periodic noise, color ramps, scrolling, sprites. Pictures are uint8 [H, W, 3], RGB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]
Painter = Callable[[float], Picture]
Colour = tuple[int, int, int]
Point = tuple[float, float]

_SUBPIXEL_BITS = 4  # cv2 draws at 1/16 of a pixel, so that slow movement is smooth


def noise(seed: int, height: int, width: int, cells: tuple[int, int], octaves: int = 4) -> Field:
    """Value noise in [0, 1], float32 [height, width], periodic in both directions.

    `cells` (down, across) is the grid of the coarsest octave; each further octave has twice as many at half the weight.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        rows, columns = min(cells[0] << octave, height // 2), min(cells[1] << octave, width // 2)
        grid = np.pad(rng.random((rows, columns), dtype=np.float32), 2, mode="wrap")
        down, across = height / rows, width / columns
        steps_x = (np.arange(width, dtype=np.float32) + 0.5) / across + 1.5
        steps_y = (np.arange(height, dtype=np.float32) + 0.5) / down + 1.5
        map_x, map_y = np.meshgrid(steps_x, steps_y)
        total += cv2.remap(grid, map_x, map_y, cv2.INTER_CUBIC) * np.float32(0.5**octave)
    low, high = np.percentile(total, (0.5, 99.5))
    scaled: Field = np.clip((total - low) / (high - low), 0, 1).astype(np.float32)
    return scaled


def tint(field: Field, *stops: Colour) -> Picture:
    """Color a field in [0, 1] with a ramp through evenly spaced `stops`."""
    places = np.linspace(0, 255, len(stops))
    ramp = np.stack([np.interp(np.arange(256), places, [stop[c] for stop in stops]) for c in range(3)], axis=1)
    picture: Picture = ramp.astype(np.uint8)[(np.clip(field, 0, 1) * 255).astype(np.uint8)]
    return picture


def gradient(height: int, width: int, *stops: Colour) -> Picture:
    """A vertical gradient from the first color (top) to the last (bottom)."""
    column = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    return tint(np.repeat(column, width, axis=1), *stops)


def scroll(picture: Picture, x: float, y: float, size: tuple[int, int]) -> Picture:
    """The window of `size` (width, height) at (x, y), at a fraction of a pixel; the picture repeats without end."""
    window: Picture = _window(picture, x, y, size)
    return window


def scroll_field(field: Field, x: float, y: float, size: tuple[int, int]) -> Field:
    """`scroll` for a field."""
    window: Field = _window(field, x, y, size)
    return window


def _window(array: npt.NDArray[Any], x: float, y: float, size: tuple[int, int]) -> npt.NDArray[Any]:
    if y == 0 and array.shape[0] == size[1] and array.shape[1] > size[0]:
        return _slid(array, x, size[0])
    matrix = np.array([[1, 0, x % array.shape[1]], [0, 1, y % array.shape[0]]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    window: npt.NDArray[Any] = cv2.warpAffine(array, matrix, size, flags=flags, borderMode=cv2.BORDER_WRAP)
    return window


def _slid(array: npt.NDArray[Any], x: float, width: int) -> npt.NDArray[Any]:
    """`_window` for sideways movement only, at a fifth of its cost."""
    first = int(x % array.shape[1])
    share = x % array.shape[1] - first
    if first + width + 1 > array.shape[1]:
        array, first = np.roll(array, -first, axis=1), 0
    window: npt.NDArray[Any] = cv2.addWeighted(
        array[:, first : first + width], 1 - share, array[:, first + 1 : first + 1 + width], share, 0
    )
    return window


def coverage(drawn: Picture) -> Field:
    """What was drawn white on black, as a soft mask in [0, 1]."""
    mask: Field = drawn[..., 0].astype(np.float32) * np.float32(1 / 255)
    return mask


def blend(below: Picture, above: Picture, cover: Field) -> Picture:
    """Lay `above` over `below` where `cover` (float32 [H, W], 0..1) says so."""
    mixed: Picture = cv2.blendLinear(below, above, np.ascontiguousarray(1 - cover), np.ascontiguousarray(cover))
    return mixed


def polygon(picture: Picture, points: Sequence[Point], colour: Colour) -> None:
    """Fill a polygon, anti-aliased, in place."""
    scaled = np.round(np.array(points, np.float64) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(picture, [scaled], colour, cv2.LINE_AA, _SUBPIXEL_BITS)


def corners(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """The four corners of an upright rectangle, for `polygon` and `turned`."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def disc(picture: Picture, centre: Point, radius: float, colour: Colour, width: int = cv2.FILLED) -> None:
    """Fill a disc, or draw a ring `width` pixels wide, anti-aliased, in place."""
    unit = 1 << _SUBPIXEL_BITS
    place = (round(centre[0] * unit), round(centre[1] * unit))
    cv2.circle(picture, place, round(radius * unit), colour, width, cv2.LINE_AA, _SUBPIXEL_BITS)


def oval(picture: Picture, centre: Point, radii: Point, colour: Colour) -> None:
    """Fill an axis-aligned ellipse, anti-aliased, in place."""
    unit = 1 << _SUBPIXEL_BITS
    place = (round(centre[0] * unit), round(centre[1] * unit))
    axes = (round(radii[0] * unit), round(radii[1] * unit))
    cv2.ellipse(picture, place, axes, 0, 0, 360, colour, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)


def line(picture: Picture, start: Point, stop: Point, colour: Colour, width: int = 1) -> None:
    """Draw a line, anti-aliased, in place."""
    unit = 1 << _SUBPIXEL_BITS
    ends = [(round(x * unit), round(y * unit)) for x, y in (start, stop)]
    cv2.line(picture, ends[0], ends[1], colour, width, cv2.LINE_AA, _SUBPIXEL_BITS)


def sphere(picture: Picture, centre: Point, radius: float, colour: Colour) -> None:
    """A shaded ball lit from the upper left, in place."""
    for step in range(13):
        share = step / 12
        shade = 0.55 + 0.55 * share
        lit = tuple(min(round(c * shade + 70 * share**3), 255) for c in colour)
        offset = 0.38 * radius * share
        disc(picture, (centre[0] - offset, centre[1] - offset), radius * (1 - 0.82 * share), (lit[0], lit[1], lit[2]))


def turned(points: Sequence[Point], angle: float, centre: Point) -> list[Point]:
    """Points around the origin turned by `angle` (radians, clockwise on screen) and moved to `centre`."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return [(centre[0] + cosine * x - sine * y, centre[1] + sine * x + cosine * y) for x, y in points]


def ridge(seed: int, width: int, cells: int, low: float, high: float, octaves: int = 5) -> npt.NDArray[np.float32]:
    """A periodic skyline: heights float32 [width] between `low` and `high`."""
    field = noise(seed, 4, width, (1, cells), octaves)
    skyline: npt.NDArray[np.float32] = (low + (high - low) * field[0]).astype(np.float32)
    return skyline


def below_line(skyline: npt.NDArray[np.float32], height: int) -> Field:
    """A soft mask, float32 [height, width]: 1 below the skyline (pixels from the top), 0 above."""
    rows = np.arange(height, dtype=np.float32)[:, None]
    mask: Field = np.clip(rows - skyline[None, :], 0, 1).astype(np.float32)
    return mask
