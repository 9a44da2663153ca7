"""Sampling from a categorical distribution by a uniform number."""

from __future__ import annotations

import torch
from torch import Tensor


def choose(distribution: Tensor, uniforms: Tensor) -> Tensor:
    """An index int64 [n] from each row of probabilities [n, ids], given a uniform number [n] in [0, 1).

    The rows need not sum to 1. An index of probability 0 is never chosen.
    """
    cumulative = distribution.cumsum(dim=-1)
    total = cumulative[:, -1:]
    # Stay below the total even where the product is rounded up, so that no id of probability 0 is chosen.
    points = torch.minimum(uniforms[:, None].to(total.dtype) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, points, right=True)[:, 0]
