"""The objective of preference pairs: DPO and its variants, with the next-token loss on the chosen (Emu3, section 2.5).

The loss of a pair is a function of the log-probabilities of its two documents, so its gradient to a token's negative
log-likelihood is one number a document. Log-probabilities are read off the hidden states in chunks, without gradient;
the slope of the loss at them becomes a weight of the document's tokens, below zero for a rejected one, in the chunked
cross-entropy that every training here uses. So activations exist once, the logits never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from reelmill.errors import ConfigError
from reelmill.tokenize.shards import Selection
from reelmill.tokenize.shards.pairs import verify_pairs
from reelmill.train.config import TrainConfig
from reelmill.train.data.batches import Batch
from reelmill.train.data.config import LOSS_KINDS
from reelmill.train.model import Decoder
from reelmill.train.objectives.by_kind import KIND_NAMES, as_tensors, means_by_kind, sums_by_kind
from reelmill.train.objectives.interface import BatchLoss, Objective
from reelmill.train.objectives.preference.data import PairCorpus, PairLoader
from reelmill.train.objectives.preference.loss import PreferenceConfig, pair_losses, scores
from reelmill.train.objectives.preference.reference import frozen_reference, stored_reference
from reelmill.train.objectives.preference.rows import PairRows, log_probs
from reelmill.train.parallel import Layout

_SUMMED = ("loss", "margin", "accuracy", "kl", "chosen", "rejected")
"""The sums over pairs, in this order, after the number of pairs; see `Preference.metrics`."""


class Preference(Objective[PairCorpus]):
    """Learn which document of each pair is preferred. Held-out pairs are for validation."""

    name: ClassVar[str] = "preference"
    shown: ClassVar[tuple[str, ...]] = (*KIND_NAMES, "ntp", "margin", "accuracy", "kl")
    Config: ClassVar[type] = PreferenceConfig

    def __init__(self, config: TrainConfig, source: PairCorpus, layout: Layout) -> None:
        super().__init__(config, source, layout)
        self.preference: PreferenceConfig = self.settings
        training, heldout = (np.flatnonzero(part) for part in (~source.heldout, source.heldout))
        self.loader = PairLoader(source, training, config.data, config.seed, layout.data_size)
        self.heldout: PairLoader | None = None
        if len(heldout):
            self.heldout = PairLoader(source, heldout, config.data, config.seed, layout.data_size)
        self.frozen: Decoder | None = None
        self.stored: Tensor | None = None

    @classmethod
    def check(cls, config: TrainConfig) -> None:
        """Raise ConfigError for settings that mean nothing, and for a z loss."""
        cls.settings_of(config).check()
        if config.z_loss:
            raise ConfigError("z_loss is for the next token alone; with the objective preference set it to 0.")

    @classmethod
    def read(cls, config: TrainConfig, folders: Sequence[Path], selection: Selection | list[Selection]) -> PairCorpus:
        """The pairs of the folders. A selection does not apply to pairs."""
        settings: PreferenceConfig = cls.settings_of(config)
        return PairCorpus(folders, settings.pairs, config.data)

    @classmethod
    def problems(cls, config: TrainConfig, source: PairCorpus) -> Iterator[str]:
        """Damaged or ill-formed pairs."""
        for path in source.index.paths:
            yield from verify_pairs(path, source.vocab)

    @classmethod
    def summary(cls, config: TrainConfig, source: PairCorpus) -> str:
        """The number of pairs, and how many are too long."""
        longer = int((source.size > config.data.context).sum())
        left_out = f"; {longer:,} are longer than data.context and would be left out" if longer else ""
        return f"{len(source):,} pairs are sound, {int(source.heldout.sum()):,} of them held out{left_out}"

    @classmethod
    def extra_memory(cls, config: TrainConfig, weights: int) -> dict[str, int]:
        """The frozen second model, if there is one."""
        settings: PreferenceConfig = cls.settings_of(config)
        has_second = settings.needs_reference and settings.reference == "model"
        return {"reference": weights} if has_second else {}

    def prepare(self, out: Path, log_fn: Callable[[str], None]) -> None:
        """Make the frozen second model, or compute the reference's log-probabilities (or read them)."""
        if not self.preference.needs_reference:
            return
        loaders = [loader for loader in (self.loader, self.heldout) if loader is not None]
        if self.preference.reference == "model":
            self.frozen = frozen_reference(self.config, self.source, self.layout, log_fn)
        else:
            self.stored = stored_reference(self.config, self.source, loaders, self.layout, out, log_fn)

    def describe(self) -> list[str]:
        """Pairs, rows, steps of an epoch."""
        packing, schedule = self.loader.packing(0), self.loader.schedule
        heldout = len(self.heldout.pairs) if self.heldout else 0
        lines = [
            f"{len(self.loader.pairs):,} pairs in {packing.rows:,} rows of {packing.context:,} ({packing.fill:.1%} "
            f"full), {schedule.batches(0):,} steps an epoch; {heldout:,} pairs held out, by prompt"
        ]
        if len(self.loader.left_out):
            lines.append(
                f"left out: {len(self.loader.left_out):,} pairs longer than data.context; raise it to train on them"
            )
        return lines

    def micro_batches(self, step: int) -> list[Batch]:
        """This rank's rows of the step; both documents of a pair are in one."""
        return self.loader.micro_batches(step, self.layout.data_index)

    def epoch(self, step: int) -> float:
        """Epochs completed when the step is done."""
        return self.loader.schedule.epoch(step)

    def denominators(self, batch: Batch) -> list[float]:
        """Pairs, and the weight of the chosen documents' tokens."""
        rows = PairRows.of(batch, self.layout)
        return [len(rows.numbers), rows.counts[:, 0].sum().item()]

    def loss(self, model: Decoder, batch: Batch, denominators: list[float]) -> BatchLoss:
        """The mean over the pairs, and `ntp_weight` times that of the chosen documents' tokens."""
        pairs, chosen_weight = denominators
        tokens, positions, targets, token_weights, kinds = as_tensors(batch, self.layout)
        rows = PairRows.of(batch, self.layout)
        hidden = model(tokens, positions, batch.lengths)
        with torch.no_grad():
            _, nll, _ = model.lm_head.loss(hidden.detach(), targets, token_weights)
        policy = (-rows.sums(nll * token_weights)).requires_grad_()
        losses, sums = self._summed(rows, policy, self._reference(rows, batch), nll, kinds)
        ntp = -policy[:, 0].sum() / max(1.0, chosen_weight)
        (slope,) = torch.autograd.grad(losses.sum() / pairs + self.preference.ntp_weight * ntp, policy)
        by_token = token_weights * rows.spread(-slope).view_as(token_weights)
        total, _, _ = model.lm_head.loss(hidden, targets, by_token)
        return BatchLoss(total, sums, nll)

    def metrics(self, sums: Tensor) -> dict[str, float]:
        """Means over the pairs, of what `_summed` summed.

        loss: of the pairs and the next token together. margin: beta times the difference of scores; accuracy: share of
        pairs where it is above 0. kl: log-probability of a document under the reference less that under the model, an
        estimate of KL(reference, model) for candidates that the reference drew. chosen, rejected: log-probability
        under the model. ntp: nats a token of the chosen answers. Then NLL by kind of the chosen, prompts included.
        """
        pairs, ntp, ntp_weight, *summed = sums[: 3 + len(_SUMMED)].tolist()
        means = {name: value / max(1.0, pairs) for name, value in zip(_SUMMED, summed, strict=True)}
        means["ntp"] = ntp / max(1.0, ntp_weight)
        means["loss"] += self.preference.ntp_weight * means["ntp"]
        if not self.preference.needs_reference:
            del means["kl"]
        return means | means_by_kind(sums[3 + len(_SUMMED) :].view(2, len(LOSS_KINDS)))

    @torch.no_grad()
    def validate(self, model: Decoder) -> dict[str, Any]:
        """The same of held-out pairs, over the first `validate_rows` rows of them."""
        if self.heldout is None:
            return {"validation": None}
        model.eval()
        packing, layout = self.heldout.packing(0), self.layout
        rows = min(packing.rows, self.config.validate_rows)
        parts = []
        for start in range(0, rows, layout.data_size):
            row = start + layout.data_index
            batch = self.heldout.build([packing.row(row) if row < rows else None])
            tokens, positions, targets, weights, kinds = as_tensors(batch, layout)
            _, nll, _ = model.lm_head.loss(model(tokens, positions, batch.lengths), targets, weights)
            of_pairs = PairRows.of(batch, layout)
            policy = -of_pairs.sums(nll * weights)
            parts.append(self._summed(of_pairs, policy, self._reference(of_pairs, batch), nll, kinds)[1])
        model.train()
        return {"validation": self.metrics(layout.sum(torch.stack(parts).sum(0)))}

    def _reference(self, rows: PairRows, batch: Batch) -> Tensor | None:
        """Log-probabilities of the reference for the pairs of a batch, float64 [pairs, 2]."""
        if self.frozen is not None:
            return log_probs(self.frozen, batch, self.layout)[1]
        return self.stored[rows.numbers] if self.stored is not None else None

    def _summed(
        self, rows: PairRows, policy: Tensor, reference: Tensor | None, nll: Tensor, kinds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of each pair, and what `metrics` needs: number of pairs, next-token loss and its weight, sums of
        `_SUMMED`, NLL by kind. Ranks that share rows have a part each of what is summed over pairs."""
        base = torch.zeros_like(policy) if reference is None else reference
        losses, margin = pair_losses(self.preference, scores(self.preference, policy, base, rows.counts))
        with torch.no_grad():
            kl = (base - policy).mean(1)
            of_pairs = (losses, margin, (margin > 0).double(), kl, policy[:, 0], policy[:, 1])
            sums = [margin.new_tensor(len(margin)), -policy[:, 0].sum(), rows.counts[:, 0].sum()]
            sums += [value.sum() for value in of_pairs]
            is_chosen = (rows.owner % 2 == 0) & (rows.owner < policy.numel())
            by_kind = sums_by_kind(nll, torch.where(is_chosen.view_as(kinds), kinds, -1))
            return losses, torch.cat((torch.stack(sums) / self.config.parallel.context, by_kind.flatten()))
