"""Windows: the parts of a picture that a copy of it may show, each with its hash.

A copy that lost up to a tenth of its sides looks like one of these windows of the original, and so do a copy within the
bars that a caption was written on. They come from the thumbnail: a window of it is a linear map of its samples, and so
is the cosine transform.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from reelmill.curation.duplicates import pdq
from reelmill.curation.duplicates.pdq import Hashes, Luma

_CUTS = ((0.0, 0.0), (0.05, 0.05), (0.1, 0.0), (0.0, 0.1), (0.05, 0.0), (0.0, 0.05))
_BARS = tuple(bar for share in (0.13, 0.16, 0.2, 0.25) for bar in ((share, 0.0), (0.0, share)))

Window = tuple[float, float, float, float]
"""Shares cut off at the left, top, right and bottom."""

WINDOWS: tuple[Window, ...] = (
    *((left, top, right, bottom) for top, bottom in _CUTS for left, right in _CUTS),
    *((0.0, top, 0.0, bottom) for top, bottom in _BARS),
)
"""The first is the whole picture."""

VARIANTS: tuple[tuple[int, int], ...] = (
    *((window, mirrored) for window in range(len(WINDOWS)) for mirrored in (0, 1)),
    *((0, dihedral) for dihedral in range(2, pdq.DIHEDRALS)),
)
"""Window and dihedral of each hash of a picture: mirrored windows, and the whole turned in all ways."""


def variants(thumbnails: npt.NDArray[np.uint8]) -> Hashes:
    """Hashes [K, V, 32] of thumbnails [K, side, side], in the order of VARIANTS."""
    return pdq.hashes(transforms(thumbnails))


def transforms(thumbnails: npt.NDArray[np.uint8]) -> Luma:
    """Likewise the transforms [K, V, 16, 16] that the hashes are of."""
    side = thumbnails.shape[-1]
    samples = thumbnails.astype(np.float32)
    cut = [_transform(side, *cuts) for cuts in _CUTS]
    rows, columns = np.concatenate(cut), np.stack(cut)
    # [K, 6 * 16, side] x [6, 16, side] -> [K, 6, 16, 6, 16]
    halfway = (rows @ samples).reshape(len(samples), len(_CUTS), pdq.FREQUENCIES, side)
    found = np.einsum("kyfs,xgs->kyxfg", halfway, columns, optimize=True)
    windows = [found.reshape(len(samples), -1, pdq.FREQUENCIES, pdq.FREQUENCIES)]
    windows += [(_transform(side, *bar) @ samples @ cut[0].T)[:, None] for bar in _BARS]
    frequencies = np.concatenate(windows, axis=1)
    every = np.stack([frequencies, pdq.turned(frequencies, 1)], axis=2)
    every = every.reshape(len(samples), -1, pdq.FREQUENCIES, pdq.FREQUENCIES)
    turned = [pdq.turned(frequencies[:, :1], dihedral) for dihedral in range(2, pdq.DIHEDRALS)]
    return np.concatenate([every, *turned], axis=1)


@cache
def resampled(side: int, before: float, after: float) -> Luma:
    """The linear map [side, side] from a line of samples to as many of the part that is left of it."""
    places = (before + (1 - before - after) * (np.arange(side) + 0.5) / side) * side - 0.5
    places = np.clip(places, 0, side - 1)
    lower = np.minimum(places.astype(int), side - 2)
    weights = np.zeros((side, side), np.float32)
    weights[np.arange(side), lower] = 1 - (places - lower)
    weights[np.arange(side), lower + 1] = places - lower
    return weights


@cache
def _transform(side: int, before: float, after: float) -> Luma:
    return pdq.cosines(side) @ resampled(side, before, after)
