"""The documents of pairs in a batch: sums over each one's tokens, and the log-probabilities of a model for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reelmill.train.data.batches import Batch
from reelmill.train.model import Decoder
from reelmill.train.objectives.by_kind import as_tensors
from reelmill.train.parallel import Layout


@dataclass(frozen=True)
class PairRows:
    """The pairs of a batch. owner: int64 [tokens of this rank's columns], which document each is of: 2k and 2k + 1 for
    the k-th pair, 2 x pairs for none. numbers: their numbers in the corpus. counts: float64 [pairs, 2], weight of each
    document's tokens."""

    owner: Tensor
    numbers: Tensor
    counts: Tensor
    layout: Layout

    @staticmethod
    def of(batch: Batch, layout: Layout) -> PairRows:
        """Of a batch of `PairLoader`, in which a rejected document follows its chosen one."""
        owner, documents = _owners(batch)
        counts = np.bincount(owner, batch.weights.ravel(), minlength=len(documents) + 1)[:-1].reshape(-1, 2)
        device = layout.ranks.device
        return PairRows(
            torch.from_numpy(layout.columns(owner.reshape(batch.tokens.shape)).ravel()).to(device),
            torch.from_numpy(documents[::2] // 2).to(device),
            torch.from_numpy(counts).to(device),
            layout,
        )

    def sums(self, values: Tensor) -> Tensor:
        """float64 [pairs, 2]: a value of each token [rows, columns] summed over the documents, on all their ranks."""
        sums = torch.zeros(self.counts.numel() + 1, dtype=torch.float64, device=values.device)
        sums.index_add_(0, self.owner, values.flatten().double())
        return self.layout.sum_of_rows(sums[:-1].view(-1, 2))

    def spread(self, values: Tensor) -> Tensor:
        """The value of its document [pairs, 2] for each token, 0 for padding."""
        return torch.cat((values.flatten(), values.new_zeros(1)))[self.owner]


@torch.no_grad()
def log_probs(model: Decoder, batch: Batch, layout: Layout) -> tuple[PairRows, Tensor]:
    """The pairs of a batch and the log-probabilities of their documents, float64 [pairs, 2]: the sums over their tokens
    by the tokens' weights, on all ranks of the row. The model is in evaluation mode."""
    rows = PairRows.of(batch, layout)
    tokens, positions, targets, weights, _ = as_tensors(batch, layout)
    _, nll, _ = model.lm_head.loss(model(tokens, positions, batch.lengths), targets, weights)
    return rows, -rows.sums(nll * weights)


def _owners(batch: Batch) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """int64 [tokens]: the place of each token's document among the batch's, their number for padding; int64: those."""
    documents = np.array(batch.documents, dtype=np.int64)
    real = documents >= 0
    place = np.where(real, np.cumsum(real) - 1, real.sum())
    return np.repeat(place, batch.lengths), documents[real]
