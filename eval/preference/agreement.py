"""Krippendorff's alpha: how far several voters agree beyond chance, whoever judged what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def krippendorff_alpha(units: Iterable[Mapping[str, float]], metric: str = "ordinal") -> float | None:
    """Alpha of what was judged: for each unit the values by voter. 1: all agree, 0: as by chance, below: less.

    K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): `nominal`, `ordinal` or `interval`
    differences. None where it is not defined: nobody shares a unit, or all values are the same.
    """
    shared = [list(values.values()) for values in units if len(values) > 1]
    if not shared:
        return None
    levels, flat = np.unique(np.concatenate(shared), return_inverse=True)
    coincidences = np.zeros((len(levels), len(levels)))
    at = 0
    for values in shared:
        counts = np.bincount(flat[at : at + len(values)], minlength=len(levels)).astype(np.float64)
        at += len(values)
        coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(values) - 1)
    totals = coincidences.sum(axis=0)
    expected = np.outer(totals, totals) - np.diag(totals)
    squared = _squared_differences(levels, totals, metric)
    chance = float((expected * squared).sum())
    if chance == 0:
        return None
    return 1 - float((coincidences * squared).sum()) * (float(totals.sum()) - 1) / chance


def _squared_differences(levels: Floats, totals: Floats, metric: str) -> Floats:
    """[levels, levels], by the metric."""
    if metric == "nominal":
        return 1 - np.eye(len(levels))
    if metric == "interval":
        return np.subtract.outer(levels, levels) ** 2
    if metric != "ordinal":
        raise ValueError(f"metric is {metric!r}; it is nominal, ordinal or interval")
    # The values from one level to the other, those at the ends counted half.
    middle = np.cumsum(totals) - totals / 2
    return np.asarray(np.subtract.outer(middle, middle) ** 2)
