"""What a run is measured by: the loss on held-out items, and reference lines that a model which learns falls below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from reelmill.tokenize.documents import TokenKind, parse
from reelmill.train.data.batches import Batch
from reelmill.train.data.binpacking import Ints
from reelmill.train.data.config import LOSS_KINDS
from reelmill.train.data.corpus import Corpus
from reelmill.train.data.loader import Loader
from reelmill.train.model import Decoder
from reelmill.train.parallel import Layout


def as_tensors(batch: Batch, layout: Layout) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """tokens, positions, targets, weights and kinds of a batch, of this rank's columns and on its device."""
    arrays = (batch.tokens, batch.positions, batch.targets, batch.weights, batch.kinds)
    tokens, positions, targets, weights, kinds = (
        torch.from_numpy(layout.columns(array)).to(layout.ranks.device) for array in arrays
    )
    return tokens.long(), positions.long(), targets.long(), weights, kinds


def sums_by_kind(nll: Tensor, kinds: Tensor) -> Tensor:
    """float64 [2, kinds]: summed NLL and number of predictions of each kind of `LOSS_KINDS`; kind -1 counts nowhere."""
    real = kinds.flatten() >= 0
    number = kinds.flatten()[real].long()
    both = torch.stack((nll.flatten()[real].double(), torch.ones_like(number, dtype=torch.float64)))
    return torch.zeros(2, len(LOSS_KINDS), dtype=torch.float64, device=nll.device).index_add_(1, number, both)


def means_by_kind(sums: Tensor) -> dict[str, float]:
    """Nats a prediction by kind, of `sums_by_kind`; kinds without a prediction are left out."""
    total, count = sums.tolist()
    return {kind.name.lower(): total[kind] / count[kind] for kind in LOSS_KINDS if count[kind]}


@torch.no_grad()
def validate(
    model: Decoder, loader: Loader, layout: Layout, most_rows: int, *, shuffle_vision: bool = False
) -> dict[str, float]:
    """Mean NLL in nats by kind over the first `most_rows` rows of the loader's first epoch, from all ranks together."""
    model.eval()
    packing = loader.packing(0)
    rows = min(packing.rows, most_rows)
    sums = torch.zeros(2, len(LOSS_KINDS), dtype=torch.float64, device=layout.ranks.device)
    for start in range(0, rows, layout.data_size):
        row = start + layout.data_index
        batch = loader.build([packing.row(row) if row < rows else None], shuffle_vision=shuffle_vision)
        tokens, positions, targets, weights, kinds = as_tensors(batch, layout)
        _, nll, _ = model.lm_head.loss(model(tokens, positions, batch.lengths), targets, weights)
        sums += sums_by_kind(nll, kinds)
    model.train()
    return means_by_kind(layout.sum(sums))


def unigram_entropy(corpus: Corpus, documents: Ints, most_tokens: int = 4_000_000) -> dict[str, float]:
    """Entropy in nats of the ids of the documents, by kind: the NLL of a model that knows only how frequent each id is.

    Counted over as many of the documents, drawn at random, as hold `most_tokens`. Kinds that do not occur are left out.
    """
    counts = np.zeros((len(TokenKind), corpus.vocab.size), dtype=np.int64)
    order = np.random.default_rng(0).permutation(documents)
    order = order[: int(np.searchsorted(np.cumsum(corpus.n_tokens[order]), most_tokens)) + 1]
    for start in range(0, len(order), 64):
        for tokens in corpus.read(order[start : start + 64]):
            np.add.at(counts, (parse(corpus.vocab, tokens).loss_kinds, tokens), 1)
    return {kind.name.lower(): _entropy(counts[kind]) for kind in LOSS_KINDS if counts[kind].any()}


def _entropy(counts: Sequence[int] | Ints) -> float:
    share = np.asarray(counts, dtype=np.float64)
    share = share[share > 0] / share.sum()
    return float(-(share * np.log(share)).sum())
