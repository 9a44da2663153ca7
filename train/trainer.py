"""The training loop and its configuration."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelmill import __version__
from reelmill.config import to_dict
from reelmill.errors import ReelmillError
from reelmill.train import checkpoint
from reelmill.train.data import LOSS_KINDS, Corpus, DataConfig, Loader
from reelmill.train.metrics import METRICS, append, readable
from reelmill.train.model import ModelConfig
from reelmill.train.optimizer import OptimizerConfig, make_optimizer
from reelmill.train.parallel import Device, Precision, Ranks, clip_gradients, sharded_decoder
from reelmill.train.saver import CheckpointConfig, Saver
from reelmill.train.validation import as_tensors, means_by_kind, sums_by_kind, unigram_entropy, validate


@dataclass(kw_only=True)
class TrainConfig:
    """A training recipe."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: int = 100_000
    seed: int = 0
    """Of the first weights, the order of the data and dropout."""
    z_loss: float = 0.0
    """Weight of the squared log-normaliser of the logits in each token's loss (`loss.py`); 0: none."""
    precision: Precision = "bfloat16"
    """What the layers compute in; parameters, optimizer and gradient sums are float32."""
    device: Device = "auto"
    validate_every: int = 1_000
    validate_rows: int = 256
    """At most so many rows of held-out documents."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)


class Trainer:
    """One run: model, optimizer and data on this rank, at the step of the last checkpoint in `out`.

    `out/metrics.jsonl` gets a line a step and a line a validation, `out/checkpoints/` the checkpoints.
    """

    def __init__(
        self, config: TrainConfig, corpus: Corpus, out: Path, ranks: Ranks, say: Callable[[str], None]
    ) -> None:
        self.config, self.corpus, self.out, self.ranks = config, corpus, out, ranks
        self.say = say if ranks.is_first else lambda _: None
        wanted = corpus.of_kinds(config.data.kinds)
        self.training, heldout = (np.flatnonzero(wanted & part) for part in (~corpus.heldout, corpus.heldout))
        self.loader = Loader(corpus, self.training, config.data, config.seed, ranks.size)
        self.heldout = Loader(corpus, heldout, config.data, config.seed, ranks.size) if len(heldout) else None
        self.model = sharded_decoder(config.model, ranks, config.precision, config.seed)
        self.optimizer = make_optimizer(self.model, config.optimizer)
        self.saver = Saver(out / "checkpoints", config.checkpoint, ranks)
        self.next_step = 0
        self.saved_step = 0

    def resume(self) -> None:
        """Go on from the last complete checkpoint, if there is one."""
        last = checkpoint.latest(self.out / "checkpoints")
        if last is None:
            return
        state = checkpoint.read_state(last)
        checkpoint.check_same_run(state, self.config, self.corpus.fingerprint, last)
        checkpoint.load(last, self.model, self.optimizer)
        self.next_step = self.saved_step = state.step
        self.say(f"resumed from {last}")

    def run(self, until: int | None = None) -> None:
        """Train up to `config.steps` (or stop before step `until`, saved), validating and saving on the way."""
        stop = self.config.steps if until is None else min(until, self.config.steps)
        self._describe()
        self.model.train()
        while self.next_step < stop:
            self._log(self.step(self.next_step))
            self.next_step += 1
            if self.next_step % self.config.validate_every == 0 or self.next_step == self.config.steps:
                self._log(self.validate())
            if self.next_step % self.config.checkpoint.every == 0:
                self.save()
        if self.next_step > self.saved_step:
            self.save()
        self.saver.wait()

    def step(self, step: int) -> dict[str, Any]:
        """One optimizer step over a global batch; returns its line for the log."""
        began = time.monotonic()
        # Dropout follows from the seed, the step and the rank: a resumed run draws what an undisturbed one does.
        seeds = np.random.SeedSequence([self.config.seed, step, self.ranks.rank])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))
        batches = self.loader.micro_batches(step, self.ranks.rank)
        # Normalised by the weight of the whole global batch: the same whatever ranks and micro-batches it is cut into.
        own_weight = sum(float(batch.weights.sum(dtype=np.float64)) for batch in batches)
        weight = self.ranks.sum(torch.tensor(own_weight, dtype=torch.float64, device=self.ranks.device)).item()
        loss_sum, z_sum = torch.zeros(2, dtype=torch.float64, device=self.ranks.device)
        sums = torch.zeros(2, len(LOSS_KINDS), dtype=torch.float64, device=self.ranks.device)
        for micro_batch in batches:
            tokens, positions, targets, weights, kinds = as_tensors(micro_batch, self.ranks.device)
            hidden = self.model(tokens, positions, micro_batch.lengths)
            total, nll, log_z = self.model.lm_head.loss(hidden, targets, weights, self.config.z_loss)
            # FSDP averages gradients over the ranks; the loss is a sum over them.
            (total * (self.ranks.size / weight)).backward()  # type: ignore[no-untyped-call]
            loss_sum += total.detach()
            z_sum += self.config.z_loss * (log_z.square() * weights).sum()
            sums += sums_by_kind(nll, kinds)
        loss = self.ranks.sum(loss_sum).item() / weight
        sums = self.ranks.sum(sums)
        norm = clip_gradients(self.model, self.config.optimizer.grad_clip)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise ReelmillError(
                f"step {step}: the loss is {loss} and the gradient norm {norm}; nothing was updated. Train "
                "again with a lower optimizer.lr or another seed; the last checkpoint is sound."
            )
        rate = self.config.optimizer.rate(step, self.config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        seconds = time.monotonic() - began
        epoch, batch = self.loader.place(step)
        return {
            "step": step,
            "loss": loss,
            **means_by_kind(sums),
            **({"z_loss": self.ranks.sum(z_sum).item() / weight} if self.config.z_loss else {}),
            "lr": rate,
            "grad_norm": norm,
            "tokens_per_s": sums[1].sum().item() / seconds,
            "epoch": epoch + (batch + 1) / self.loader.batches(epoch),
        }

    def validate(self) -> dict[str, Any]:
        """The line of a validation: NLL by kind, the same with every document's codes shuffled, reference entropies."""
        if self.heldout is None:
            return {"step": self.next_step, "validation": None}
        rows = self.config.validate_rows
        plain = validate(self.model, self.heldout, self.ranks, rows)
        shuffled = validate(self.model, self.heldout, self.ranks, rows, shuffle_vision=True)
        return {
            "step": self.next_step,
            "validation": plain,
            "vision_shuffled": shuffled.get("vision"),
            "unigram_entropy": self._unigram_entropy,
        }

    def save(self) -> None:
        """Begin to write the checkpoint of the steps made so far."""
        state = checkpoint.TrainState(
            step=self.next_step,
            recipe=to_dict(self.config),
            vocabulary=self.corpus.vocab.to_json(),
            tokenizer=self.corpus.tokenizer,
            data=self.corpus.fingerprint,
            version=__version__,
        )
        path = self.saver.save(state, self.model, self.optimizer)
        self.saved_step = self.next_step
        self.say(f"saving {path}")

    @cached_property
    def _unigram_entropy(self) -> dict[str, float]:
        return unigram_entropy(self.corpus, self.training)

    def _describe(self) -> None:
        packing = self.loader.packing(0)
        heldout = len(self.heldout.documents) if self.heldout else 0
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.say(
            f"{parameters:,} parameters on {self.ranks.size} x {self.ranks.device.type}; {len(self.training):,} "
            f"documents in {packing.rows:,} rows of {packing.context:,} ({packing.fill:.1%} full), "
            f"{self.loader.batches(0):,} steps an epoch; {heldout:,} documents held out"
        )
        if len(self.loader.left_out):
            self.say(
                f"left out: {len(self.loader.left_out):,} documents longer than data.context that cannot be cut (an "
                "image, or one latent frame of a video); raise data.context to train on them"
            )

    def _log(self, line: dict[str, Any]) -> None:
        if self.ranks.is_first:
            append(self.out / METRICS, line)
            self.say(readable(line, self.config.steps))
