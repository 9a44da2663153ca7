"""Batches as tensors, and their losses by kind of token: what objectives over tokens share."""

from __future__ import annotations

import torch
from torch import Tensor

from reelmill.train.data.batches import Batch
from reelmill.train.data.config import LOSS_KINDS
from reelmill.train.parallel import Layout

KIND_NAMES = tuple(kind.name.lower() for kind in LOSS_KINDS)


def as_tensors(batch: Batch, layout: Layout) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(tokens, positions, targets, weights, kinds) of a batch: this rank's columns, on its device."""
    arrays = (batch.tokens, batch.positions, batch.targets, batch.weights, batch.kinds)
    tokens, positions, targets, weights, kinds = (
        torch.from_numpy(layout.columns(array)).to(layout.ranks.device) for array in arrays
    )
    return tokens.long(), positions.long(), targets.long(), weights, kinds


def sums_by_kind(nll: Tensor, kinds: Tensor) -> Tensor:
    """float64 [2, kinds]: summed NLL and number of predictions of each kind in `LOSS_KINDS`. Kind -1 is not counted."""
    real = kinds.flatten() >= 0
    number = kinds.flatten()[real].long()
    both = torch.stack((nll.flatten()[real].double(), torch.ones_like(number, dtype=torch.float64)))
    return torch.zeros(2, len(LOSS_KINDS), dtype=torch.float64, device=nll.device).index_add_(1, number, both)


def means_by_kind(sums: Tensor) -> dict[str, float]:
    """Nats per prediction by kind, from the result of `sums_by_kind`. Kinds without predictions are left out."""
    total, count = sums.tolist()
    return {name: total[kind] / count[kind] for kind, name in zip(LOSS_KINDS, KIND_NAMES, strict=True) if count[kind]}
