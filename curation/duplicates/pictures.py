"""A second look at two pictures whose hashes are near: laid over each other, are they the same everywhere?

Two frames of a scene and two shots of a burst have nearly the same low frequencies. Blocks tell them from copies: in a
copy nearly every block with structure is the same but for compression, and in the same place; what a caption covers is
a small part. Where things or the camera moved, blocks that look the same lie elsewhere.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from reelmill.curation.duplicates.pdq import Luma, turned_picture
from reelmill.curation.duplicates.windows import Window

BLOCK = 8
STRUCTURE = 3.0
"""Standard deviation of luma from which on a block has something to compare."""
SAME = 0.8
"""Correlation from which on two blocks show the same."""
MOVED = 0.5
"""Pixels of a thumbnail by which a block of a copy is out of place, at most."""
SMOOTH = 1.0
BAND = 2
"""Rows of blocks, of 8, that a caption may cover."""
FEWEST = 6
"""Blocks with structure without which nothing is proven."""
DAMPING = 12.0
"""Squared slope of luma a pixel under which a window's structure is little."""
_ROUNDS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)


def agreement(original: npt.NDArray[np.uint8], copy: npt.NDArray[np.uint8], window: Window, dihedral: int) -> float:
    """Share of blocks that are the same, 0 to 1, of thumbnails [side, side]; a band that a caption covers may differ.

    `copy` is expected to show the window of `original`, then mirrored or turned by `dihedral`; the affine map between
    them is refined first (Evangelidis and Psarakis, "Parametric image alignment using enhanced correlation coefficient
    maximization", 2008).
    """
    turned, shown = turned_picture(_smooth(original), dihedral), _smooth(copy)
    warp = _aligned(turned, shown, window, dihedral)
    side = len(shown)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(turned, warp, (side, side), flags=flags)
    is_there = cv2.warpAffine(np.ones_like(turned), warp, (side, side), flags=flags) > 0.99
    return _same_blocks(laid, shown, is_there, _moves(laid, shown))


def _smooth(thumbnail: npt.NDArray[np.uint8]) -> Luma:
    """Without what two ways to make it smaller differ in."""
    return np.asarray(cv2.GaussianBlur(thumbnail.astype(np.float32), (0, 0), SMOOTH), np.float32)


def _aligned(original: Luma, copy: Luma, window: Window, dihedral: int) -> Luma:
    """The affine map [2, 3] from places in the copy to places in the original."""
    side = len(copy)
    left, top, right, bottom = window
    left = right if dihedral & 1 else left
    scales = 1 - window[0] - window[2], 1 - top - bottom
    shifts = (((place * side) + 0.5 * scale - 0.5) for place, scale in zip((left, top), scales, strict=True))
    warp = np.array([[scales[0], 0, next(shifts)], [0, scales[1], next(shifts)]], np.float32)
    try:
        _, refined = cv2.findTransformECC(copy, original, warp.copy(), cv2.MOTION_AFFINE, _ROUNDS, None, 3)
    except cv2.error:  # it did not converge: the window is as near as it gets
        return warp
    return np.asarray(refined, np.float32)


def _moves(some: Luma, others: Luma) -> Luma:
    """How many pixels each block [blocks] has moved: one step of Lucas and Kanade (1981) over a window of 12 pixels.

    Along an edge nothing tells how far, and where there is little structure noise would: damped, both count as still.
    """
    rows, columns = (np.asarray(slope, np.float32) for slope in np.gradient((some + others) / 2))
    change = (others - _window(others)) - (some - _window(some))
    xx, xy, yy = (_window(product) for product in (columns**2, columns * rows, rows**2))
    x, y = _window(columns * change), _window(rows * change)
    xx, yy = xx + DAMPING, yy + DAMPING
    moved = np.hypot(yy * x - xy * y, xx * y - xy * x) / (xx * yy - xy**2)
    return np.asarray(moved[BLOCK // 2 :: BLOCK, BLOCK // 2 :: BLOCK].ravel(), np.float32)


def _window(values: Luma) -> Luma:
    return np.asarray(cv2.boxFilter(values, -1, (12, 12)), np.float32)


def _same_blocks(some: Luma, others: Luma, is_there: npt.NDArray[np.bool_], moves: Luma) -> float:
    """Share of the blocks with structure in which two pictures correlate and that have not moved, but for the worst
    band of them; 0 where there are few such blocks."""
    firsts, seconds, there = (_blocks(values) for values in (some, others, is_there))
    firsts, seconds = (values - values.mean(axis=1, keepdims=True) for values in (firsts, seconds))
    spread = np.sqrt((firsts**2).mean(axis=1)), np.sqrt((seconds**2).mean(axis=1))
    has_structure = (np.maximum(*spread) >= STRUCTURE) & there.all(axis=1)
    together = (firsts * seconds).mean(axis=1) / np.maximum(spread[0] * spread[1], 1e-6)
    rows = len(some) // BLOCK
    structure, same = (
        np.count_nonzero(flags.reshape(rows, -1), axis=1)
        for flags in (has_structure, has_structure & (together >= SAME) & (moves <= MOVED))
    )
    shares = [0.0]
    for band in range(rows - BAND + 1):
        left = structure.sum() - structure[band : band + BAND].sum()
        if left >= FEWEST:
            shares.append(float((same.sum() - same[band : band + BAND].sum()) / left))
    return max(shares)


def _blocks(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """[blocks, BLOCK * BLOCK] of a square picture."""
    count = len(values) // BLOCK
    return values.reshape(count, BLOCK, count, BLOCK).swapaxes(1, 2).reshape(count * count, BLOCK * BLOCK)
