"""Krippendorff's alpha: how far several voters agree beyond chance, even if each judged different things."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def krippendorff_alpha(units: Iterable[Mapping[str, float]], metric: str = "ordinal") -> float | None:
    """Alpha of the values of each unit by voter. 1: perfect agreement, 0: as by chance, negative: less than that.

    Source: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), with `nominal`, `ordinal` or
    `interval` differences. None if alpha is not defined: no unit has two voters, or all values are the same.
    """
    shared = [list(values.values()) for values in units if len(values) > 1]
    if not shared:
        return None
    levels, flat = np.unique(np.concatenate(shared), return_inverse=True)
    coincidences = np.zeros((len(levels), len(levels)))
    start = 0
    for values in shared:
        counts = np.bincount(flat[start : start + len(values)], minlength=len(levels)).astype(np.float64)
        start += len(values)
        coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(values) - 1)
    totals = coincidences.sum(axis=0)
    expected = np.outer(totals, totals) - np.diag(totals)
    squared = _squared_differences(levels, totals, metric)
    expected_disagreement = float((expected * squared).sum())
    if expected_disagreement == 0:
        return None
    return 1 - float((coincidences * squared).sum()) * (float(totals.sum()) - 1) / expected_disagreement


def _squared_differences(levels: Floats, totals: Floats, metric: str) -> Floats:
    """Squared differences [levels, levels] under a metric."""
    if metric == "nominal":
        return 1 - np.eye(len(levels))
    if metric == "interval":
        return np.subtract.outer(levels, levels) ** 2
    if metric != "ordinal":
        raise ValueError(f"metric is {metric!r}; it must be nominal, ordinal or interval")
    # The number of values from one level to the other, with the two levels counted half.
    middle = np.cumsum(totals) - totals / 2
    return np.asarray(np.subtract.outer(middle, middle) ** 2)
