"""Fréchet distance of Inception features, FID (Heusel et al. 2017); of reconstructions to originals it is rFID."""

from __future__ import annotations

import numpy as np

from reelmill.inception import Features


def frechet_distance(one: Features, other: Features) -> float:
    """The squared Fréchet distance of the normal distributions fitted to two sets of features, [N, D] and [M, D].

    For covariances S1 = AᵀA and S2 = BᵀB, the trace of (S1 S2)^(1/2) is the sum of the singular values of A Bᵀ, so no
    matrix square root is needed. Raises ValueError for fewer than two rows.
    """
    if min(len(one), len(other)) < 2:
        raise ValueError(f"a covariance needs at least two pictures; there are {len(one)} and {len(other)}")
    shift = ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum()
    a, b = _root(one), _root(other)
    return float(shift + (a**2).sum() + (b**2).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum())


def _root(features: Features) -> Features:
    """A matrix A of at most D rows with AᵀA equal to the covariance."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    rows, columns = centred.shape
    triangle: Features = centred if rows <= columns else np.asarray(np.linalg.qr(centred, mode="r"))
    return triangle
