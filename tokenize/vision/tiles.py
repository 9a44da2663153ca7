"""Tiles of large frames, in codes: each is encoded and decoded with a margin around it, which is discarded.

The margin shows a tile its neighbors. GroupNorm statistics and attention are still per tile, so a faint seam can remain
where tiles meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MARGIN = 8
"""Width of the margin, in codes."""

Slices = tuple[slice, slice]


@dataclass(frozen=True)
class Tile:
    """`outer`: the codes that are computed; `inner`: those kept, in the frame; `kept`: the same within the tile."""

    outer: Slices
    inner: Slices
    kept: Slices

    def pixels(self, factor: int) -> Slices:
        """`outer` in pixels."""
        return _scaled(self.outer, factor)

    def inner_pixels(self, factor: int) -> Slices:
        """`inner` in pixels."""
        return _scaled(self.inner, factor)

    def kept_pixels(self, factor: int) -> Slices:
        """`kept` in pixels."""
        return _scaled(self.kept, factor)


def grid(shape: Sequence[int], temporal: int, spatial: int) -> tuple[int, int, int]:
    """Codes (T, h, w) of `shape` frames, height, width in pixels, each rounded up."""
    frames, height, width = shape
    return -(-frames // temporal), -(-height // spatial), -(-width // spatial)


def tiles(shape: Sequence[int], side: int) -> Iterator[Tile]:
    """The tiles of a frame of `shape` codes (h, w): at most `side` codes a side with their margins; one if it fits."""
    for rows in _spans(shape[0], side):
        for columns in _spans(shape[1], side):
            outer, inner, kept = zip(rows, columns, strict=True)
            yield Tile(outer, inner, kept)


def _spans(length: int, side: int) -> Iterator[tuple[slice, slice, slice]]:
    """(outer, inner, kept) along one side."""
    if length <= side:
        yield slice(0, length), slice(0, length), slice(0, length)
        return
    for start in range(0, length, side - 2 * MARGIN):
        stop = min(start + side - 2 * MARGIN, length)
        first, last = max(0, start - MARGIN), min(length, stop + MARGIN)
        yield slice(first, last), slice(start, stop), slice(start - first, stop - first)


def _scaled(slices: Slices, factor: int) -> Slices:
    rows, columns = (slice(part.start * factor, part.stop * factor) for part in slices)
    return rows, columns
