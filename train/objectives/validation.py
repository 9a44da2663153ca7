"""Measures of next-token training: the loss on held-out documents, and reference entropies to compare with."""

from __future__ import annotations

import numpy as np
import torch

from reelmill.tokenize.documents import TokenKind, parse
from reelmill.train.data.binpacking import Ints
from reelmill.train.data.config import LOSS_KINDS
from reelmill.train.data.corpus import Corpus
from reelmill.train.data.loader import Loader
from reelmill.train.model import Decoder
from reelmill.train.objectives.by_kind import as_tensors, means_by_kind, sums_by_kind
from reelmill.train.parallel import Layout


@torch.no_grad()
def validate(
    model: Decoder, loader: Loader, layout: Layout, max_rows: int, *, shuffle_vision: bool = False
) -> dict[str, float]:
    """Mean NLL in nats by kind over the first `max_rows` rows of the loader's first epoch, from all ranks together."""
    model.eval()
    packing = loader.packing(0)
    rows = min(packing.rows, max_rows)
    sums = torch.zeros(2, len(LOSS_KINDS), dtype=torch.float64, device=layout.ranks.device)
    for start in range(0, rows, layout.data_size):
        row = start + layout.data_index
        batch = loader.build([packing.row(row) if row < rows else None], shuffle_vision=shuffle_vision)
        tokens, positions, targets, weights, kinds = as_tensors(batch, layout)
        _, nll, _ = model.lm_head.loss(model(tokens, positions, batch.lengths), targets, weights)
        sums += sums_by_kind(nll, kinds)
    model.train()
    return means_by_kind(layout.sum(sums))


def unigram_entropy(corpus: Corpus, documents: Ints, max_tokens: int = 4_000_000) -> dict[str, float]:
    """Entropy in nats of the documents' ids, by kind: the NLL of a model that knows only how frequent each id is.

    Counted over a random sample of the documents with about `max_tokens` tokens. Kinds that do not occur are left out.
    """
    counts = np.zeros((len(TokenKind), corpus.vocab.size), dtype=np.int64)
    order = np.random.default_rng(0).permutation(documents)
    order = order[: int(np.searchsorted(np.cumsum(corpus.n_tokens[order]), max_tokens)) + 1]
    for start in range(0, len(order), 64):
        for tokens in corpus.read(order[start : start + 64]):
            np.add.at(counts, (parse(corpus.vocab, tokens).loss_kinds, tokens), 1)
    return {kind.name.lower(): _entropy(counts[kind]) for kind in LOSS_KINDS if counts[kind].any()}


def _entropy(counts: Ints) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())
