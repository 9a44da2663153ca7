"""The objective of pretraining and of most that follows it: the next token, each token at its weight."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelmill.train.config import TrainConfig
from reelmill.train.data.batches import Batch
from reelmill.train.data.config import LOSS_KINDS
from reelmill.train.data.corpus import Corpus
from reelmill.train.data.loader import Loader
from reelmill.train.metrics import beginning
from reelmill.train.model import Decoder
from reelmill.train.objectives.interface import BatchLoss
from reelmill.train.objectives.validation import as_tensors, means_by_kind, sums_by_kind, unigram_entropy, validate
from reelmill.train.parallel import Layout


class NextToken:
    """Predict the documents of a corpus; held-out ones are validated with."""

    def __init__(self, config: TrainConfig, corpus: Corpus, layout: Layout) -> None:
        self.config, self.corpus, self.layout = config, corpus, layout
        wanted = corpus.of_kinds(config.data.kinds)
        self.training, heldout = (np.flatnonzero(wanted & part) for part in (~corpus.heldout, corpus.heldout))
        self.loader = Loader(corpus, self.training, config.data, config.seed, layout.data_size)
        plain = config.data.for_validation()
        self.heldout = Loader(corpus, heldout, plain, config.seed, layout.data_size) if len(heldout) else None

    def prepare(self, out: Path, log_fn: Callable[[str], None]) -> None:
        """Nothing is needed beforehand."""

    def describe(self) -> list[str]:
        """Documents, rows, steps of an epoch."""
        return beginning(self.loader, len(self.heldout.documents) if self.heldout else 0)

    def micro_batches(self, step: int) -> list[Batch]:
        """This rank's rows of the step."""
        return self.loader.micro_batches(step, self.layout.data_index)

    def epoch(self, step: int) -> float:
        """Epochs made when the step is done."""
        return self.loader.schedule.epoch(step)

    def weights(self, batch: Batch) -> list[float]:
        """The weight of the batch's tokens."""
        return [float(batch.weights.sum(dtype=np.float64))]

    def loss(self, model: Decoder, batch: Batch, weights: list[float]) -> BatchLoss:
        """The weighted mean over the global batch; sums: loss and z-loss, then NLL and number by kind."""
        weight = weights[0] or 1.0  # a small batch may have nothing that counts: nothing is learnt from it
        ids, positions, targets, token_weights, kinds = as_tensors(batch, self.layout)
        hidden = model(ids, positions, batch.lengths)
        total, nll, log_z = model.lm_head.loss(hidden, targets, token_weights, self.config.z_loss)
        total = total / weight
        z_loss = self.config.z_loss * (log_z.square() * token_weights).sum() / weight
        own = torch.stack((total.detach().double(), z_loss.double()))
        return BatchLoss(total, torch.cat((own, sums_by_kind(nll, kinds).flatten())), nll)

    def line(self, sums: Tensor) -> dict[str, float]:
        """Loss, NLL by kind, z-loss where there is one."""
        loss, z_loss, *_ = sums.tolist()
        by_kind = means_by_kind(sums[2:].view(2, len(LOSS_KINDS)))
        return {"loss": loss, **by_kind, **({"z_loss": z_loss} if self.config.z_loss else {})}

    def validate(self, model: Decoder) -> dict[str, Any]:
        """NLL by kind, the same with every document's codes shuffled, reference entropies."""
        if self.heldout is None:
            return {"validation": None, "heldout": self.config.data.heldout}
        rows = self.config.validate_rows
        plain = validate(model, self.heldout, self.layout, rows)
        shuffled = validate(model, self.heldout, self.layout, rows, shuffle_vision=True)
        return {
            "validation": plain,
            "vision_shuffled": shuffled.get("vision"),
            "unigram_entropy": self._unigram_entropy,
        }

    @cached_property
    def _unigram_entropy(self) -> dict[str, float]:
        return unigram_entropy(self.corpus, self.training)
