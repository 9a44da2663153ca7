"""Finds the source of a loss or a gradient that is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from reelmill.errors import ReelmillError
from reelmill.train.data.batches import Batch
from reelmill.train.objectives.interface import DataSource
from reelmill.train.parallel import Layout, Ranks

_MOST = 8


class NotFinite(NamedTuple):
    """What is not finite and where, and what to do about it."""

    reason: str
    cure: str

    def error(self, step: int) -> ReelmillError:
        """The error for a step, from 0, that cannot be made."""
        return ReelmillError(
            f"step {step + 1}: {self.reason}. Nothing was updated and the last checkpoint is sound. {self.cure}"
        )


def examine_loss(losses: Sequence[tuple[Batch, Tensor]], source: DataSource, layout: Layout) -> NotFinite:
    """Of a step whose loss is not finite; `losses` are the rank's micro-batches with their tokens' NLLs.

    All ranks call this and get the same: the documents on all ranks, at most 8, in which the NLL is not finite.
    """
    found = layout.ranks.gather(
        [
            f"rank {layout.ranks.rank}, micro-batch {number}: document {source.name(document)}"
            for number, (batch, nll) in enumerate(losses)
            for document in _documents(batch, nll, layout)
        ]
    )
    where = f"in {_listed(found)}" if found else "in their sum; each token's is"
    return NotFinite(
        f"the loss is not finite {where}",
        "If it is always the same document, look at it (`reelmill verify`) and leave it out; if not, train again with "
        "a lower optimizer.lr.",
    )


def examine_gradient(loss: float, norm: float, model: nn.Module, ranks: Ranks) -> NotFinite:
    """Of a step whose loss is finite and whose gradient is not: at most 8 parameters, in backward order.

    Where each gradient is finite and only the norm of all overflows, the one that is largest on the first rank. All
    ranks call this and get the same.
    """
    norms = {name: _norm(p.grad) for name, p in reversed(list(model.named_parameters())) if p.grad is not None}
    names = list(dict.fromkeys(ranks.gather([name for name, size in norms.items() if not np.isfinite(size)])))
    if not names:
        names = ranks.gather([max(norms, key=lambda name: norms[name])])[:1]
    return NotFinite(
        f"the loss is {loss:.4g}, but the gradient's norm is {norm} because of {_listed(names)}",
        "Train again with a lower optimizer.lr, a longer warm-up or another seed.",
    )


def _documents(batch: Batch, nll: Tensor, layout: Layout) -> list[int]:
    """The documents of a batch in which a prediction's NLL [rows, this rank's columns] is not finite."""
    owner = layout.columns(np.repeat(batch.documents, batch.lengths).reshape(batch.tokens.shape)).ravel()
    bad = ~torch.isfinite(nll).cpu().numpy().ravel()
    return [int(document) for document in np.unique(owner[bad]) if document >= 0]


def _norm(gradient: Tensor) -> float:
    """This rank's share of a gradient's norm."""
    local = gradient.to_local() if isinstance(gradient, DTensor) else gradient
    return float(local.detach().float().norm())


def _listed(found: Sequence[str]) -> str:
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return "; ".join(found[:_MOST]) + more
