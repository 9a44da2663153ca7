"""The objective of pretraining and most later stages: predict the next token, weighted by its kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from reelmill.tokenize.shards import Selection, verify_shard
from reelmill.train.config import TrainConfig
from reelmill.train.data.batches import Batch
from reelmill.train.data.config import LOSS_KINDS
from reelmill.train.data.conversations import conversation_problems
from reelmill.train.data.corpus import Corpus
from reelmill.train.data.loader import Loader
from reelmill.train.data.subjects import subjects
from reelmill.train.model import Decoder
from reelmill.train.objectives.by_kind import KIND_NAMES, as_tensors, means_by_kind, sums_by_kind
from reelmill.train.objectives.interface import BatchLoss, Objective
from reelmill.train.objectives.validation import unigram_entropy, validate
from reelmill.train.parallel import Layout


class NextToken(Objective[Corpus]):
    """Predict the documents of a corpus. Held-out documents are for validation."""

    name: ClassVar[str] = "next_token"
    shown: ClassVar[tuple[str, ...]] = KIND_NAMES

    def __init__(self, config: TrainConfig, source: Corpus, layout: Layout) -> None:
        super().__init__(config, source, layout)
        wanted = source.of_kinds(config.data.kinds)
        self.training, heldout = (np.flatnonzero(wanted & part) for part in (~source.heldout, source.heldout))
        self.loader = Loader(source, self.training, config.data, config.seed, layout.data_size)
        plain = config.data.for_validation()
        self.heldout = Loader(source, heldout, plain, config.seed, layout.data_size) if len(heldout) else None

    @classmethod
    def read(cls, config: TrainConfig, folders: Sequence[Path], selection: Selection | list[Selection]) -> Corpus:
        """The documents of the run folders."""
        return Corpus(folders, selection, config.data)

    @classmethod
    def problems(cls, config: TrainConfig, source: Corpus) -> Iterator[str]:
        """Damaged or ill-formed documents, then conversations whose answers teach nothing."""
        sound = True
        for path in source.paths:
            for problem in verify_shard(path, source.vocab):
                sound = False
                yield problem
        if sound:  # a document that cannot be parsed cannot be read as a conversation
            yield from conversation_problems(source)

    @classmethod
    def summary(cls, config: TrainConfig, source: Corpus) -> str:
        """How many documents there are."""
        return f"{len(source):,} documents are sound, {int(source.heldout.sum()):,} of them held out"

    def describe(self) -> list[str]:
        """Documents, rows, steps per epoch."""
        loader, packing = self.loader, self.loader.packing(0)
        heldout = len(self.heldout.documents) if self.heldout else 0
        lines = [
            f"{len(loader.documents):,} documents in {packing.rows:,} rows of {packing.context:,} "
            f"({packing.fill:.1%} full), {loader.batches(0):,} steps an epoch; {heldout:,} documents held out"
        ]
        if len(loader.left_out):
            lines.append(
                f"left out: {len(loader.left_out):,} documents longer than data.context that cannot be split (an "
                "image, or one latent frame of a video); raise data.context to train on them"
            )
        return lines

    def subjects(self) -> list[str]:
        """Names of what the training documents teach."""
        return subjects(self.source, self.training)

    def micro_batches(self, step: int) -> list[Batch]:
        """This rank's rows of the step."""
        return self.loader.micro_batches(step, self.layout.data_index)

    def epoch(self, step: int) -> float:
        """Epochs completed when the step is done."""
        return self.loader.schedule.epoch(step)

    def denominators(self, batch: Batch) -> list[float]:
        """The weight of the batch's tokens."""
        return [float(batch.weights.sum(dtype=np.float64))]

    def loss(self, model: Decoder, batch: Batch, denominators: list[float]) -> BatchLoss:
        """The weighted mean over the global batch. sums: loss and z-loss, then NLL and number of tokens by kind."""
        weight = denominators[0] or 1.0  # a small batch may have no token that counts: nothing is learned from it
        ids, positions, targets, token_weights, kinds = as_tensors(batch, self.layout)
        hidden = model(ids, positions, batch.lengths)
        total, nll, log_z = model.lm_head.loss(hidden, targets, token_weights, self.config.z_loss)
        total = total / weight
        z_loss = self.config.z_loss * (log_z.square() * token_weights).sum() / weight
        own = torch.stack((total.detach().double(), z_loss.double()))
        return BatchLoss(total, torch.cat((own, sums_by_kind(nll, kinds).flatten())), nll)

    def metrics(self, sums: Tensor) -> dict[str, float]:
        """Loss, NLL by kind, and the z-loss if there is one."""
        loss, z_loss, *_ = sums.tolist()
        by_kind = means_by_kind(sums[2:].view(2, len(LOSS_KINDS)))
        return {"loss": loss, **by_kind, **({"z_loss": z_loss} if self.config.z_loss else {})}

    def validate(self, model: Decoder) -> dict[str, Any]:
        """NLL by kind, the same with every document's codes shuffled, and reference entropies."""
        if self.heldout is None:
            return {"validation": None}
        rows = self.config.validate_rows
        plain = validate(model, self.heldout, self.layout, rows)
        shuffled = validate(model, self.heldout, self.layout, rows, shuffle_vision=True)
        return {
            "validation": plain,
            "vision_shuffled": shuffled.get("vision"),
            "unigram_entropy": self._unigram_entropy,
        }

    def format_validation(self, metrics: dict[str, Any]) -> str:
        """NLL by kind, each with the entropy that a learning model falls below."""
        parts = []
        for kind, nll in metrics["validation"].items():
            entropy = metrics["unigram_entropy"].get(kind)
            references = [] if entropy is None else [f"unigram {entropy:.3f}"]
            if kind == "vision":
                references.append(f"shuffled {metrics['vision_shuffled']:.3f}")
            parts.append(f"{kind} {nll:.3f}" + (f" ({', '.join(references)})" if references else ""))
        return f"validation after step {metrics['step']}, nats a token: " + "  ".join(parts)

    @cached_property
    def _unigram_entropy(self) -> dict[str, float]:
        return unigram_entropy(self.source, self.training)
