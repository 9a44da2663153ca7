"""Shared by the objectives over tokens: batches as tensors, and losses by kind of token."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reelmill.train.attention import to_device
from reelmill.train.data.batches import Batch
from reelmill.train.data.config import LOSS_KINDS
from reelmill.train.parallel import Layout

KIND_NAMES = tuple(kind.name.lower() for kind in LOSS_KINDS)


def as_tensors(batch: Batch, layout: Layout) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(tokens, positions, targets, weights, kinds) of a batch: this rank's columns, on its device.

    int64 but for the weights, float32. They travel in one copy that the device does not wait for.
    """
    arrays = (batch.tokens, batch.positions, batch.targets, batch.weights.view(np.int32), batch.kinds.astype(np.int32))
    together = to_device(torch.from_numpy(np.stack([layout.columns(array) for array in arrays])), layout.ranks.device)
    tokens, positions, targets, weights, kinds = together.unbind()
    return tokens.long(), positions.long(), targets.long(), weights.view(torch.float32), kinds.long()


def sums_by_kind(nll: Tensor, kinds: Tensor) -> Tensor:
    """float64 [2, kinds]: summed NLL and number of predictions of each kind in `LOSS_KINDS`. Kind -1 is not counted."""
    # Nothing here depends on how many are real: to know, the host would have to wait for the device.
    number, values = kinds.flatten(), nll.flatten().double()
    real = number >= 0
    both = torch.stack((values.where(real, 0.0), real.double()))
    sums = torch.zeros(2, len(LOSS_KINDS), dtype=torch.float64, device=nll.device)
    return sums.index_add_(1, number.clamp(min=0), both)


def means_by_kind(sums: Tensor) -> dict[str, float]:
    """Nats per prediction by kind, from the result of `sums_by_kind`. Kinds without predictions are left out."""
    total, count = sums.tolist()
    return {name: total[kind] / count[kind] for kind, name in zip(LOSS_KINDS, KIND_NAMES, strict=True) if count[kind]}
