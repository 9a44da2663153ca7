"""The training loop and its configuration."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reelmill import __version__
from reelmill.config import to_dict
from reelmill.errors import Interrupted, Preempted
from reelmill.train import checkpoint
from reelmill.train.data import LOSS_KINDS, Batch, Corpus, DataConfig, Loader
from reelmill.train.estimate import CONVENTION
from reelmill.train.meter import Meter
from reelmill.train.metrics import beginning, readable
from reelmill.train.model import Decoder, ModelConfig
from reelmill.train.nonfinite import gradient_error, loss_error
from reelmill.train.optimizer import OptimizerConfig, make_optimizer
from reelmill.train.parallel import Device, Layout, ParallelConfig, Precision, Ranks, clip_gradients, sharded_decoder
from reelmill.train.saver import CheckpointConfig, Saver
from reelmill.train.signals import StopRequest, stop_requests
from reelmill.train.starting import load_starting_weights
from reelmill.train.trackers import LogConfig, Tracker, trackers
from reelmill.train.validation import as_tensors, means_by_kind, sums_by_kind, unigram_entropy, validate
from reelmill.train.whole import whole_decoder


@dataclass(kw_only=True)
class TrainConfig:
    """A training recipe."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    init: str = ""
    """Weights to begin with (`starting.py`): a checkpoint, a training run or a folder in Hugging Face's layout."""
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
    sample_prompts: list[str] = field(default_factory=list)
    """Captions of pictures that are drawn at each validation, into RUN/samples/step-N."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)


Draw = Callable[[Decoder, Path], None]
"""Draws pictures with a whole model into a folder."""


class Trainer:
    """One run: model, optimizer and data on this rank, at the step of the last checkpoint in `out`.

    `out/metrics.jsonl` gets a line a step and a line a validation, `out/checkpoints/` the checkpoints.
    """

    def __init__(
        self,
        config: TrainConfig,
        corpus: Corpus,
        out: Path,
        ranks: Ranks,
        say: Callable[[str], None],
        draw: Draw | None = None,
    ) -> None:
        config.log.check()
        self.config, self.corpus, self.out, self.ranks = config, corpus, out, ranks
        self.draw = draw
        self.say = say if ranks.is_first else lambda _: None
        wanted = corpus.of_kinds(config.data.kinds)
        self.training, heldout = (np.flatnonzero(wanted & part) for part in (~corpus.heldout, corpus.heldout))
        self.layout = layout = Layout.of(config.parallel, config.model, config.data.context, ranks)
        self.loader = Loader(corpus, self.training, config.data, config.seed, layout.data_size)
        plain = config.data.as_they_are()
        self.heldout = Loader(corpus, heldout, plain, config.seed, layout.data_size) if len(heldout) else None
        self.model = sharded_decoder(config.model, layout, config.precision, config.seed)
        self.optimizer = make_optimizer(self.model, config.optimizer)
        self.saver = Saver(out / "checkpoints", config.checkpoint, ranks)
        self.meter = Meter(config.model, config.precision, ranks.device, ranks.size, config.steps)
        self.trackers: list[Tracker] = []
        self.next_step = 0
        self.saved_step = 0
        self.tokens = 0

    def resume(self) -> None:
        """Go on from the last complete checkpoint, or begin with the weights of `config.init` where there is none."""
        last = checkpoint.latest(self.out / "checkpoints")
        if last is None:
            if self.config.init:
                vocab, tokenizer = self.corpus.vocab, self.corpus.tokenizer
                found = load_starting_weights(Path(self.config.init), self.model, vocab, tokenizer)
                self.say(f"begins with the {found}")
            return
        state = checkpoint.read_state(last)
        checkpoint.check_same_run(state, self.config, self.corpus.fingerprint, last)
        checkpoint.load(last, self.model, self.optimizer)
        self.next_step, self.saved_step, self.tokens = state.step, state.step, state.tokens
        self.say(f"resumed from {last}")

    def run(self, until: int | None = None) -> None:
        """Train up to `config.steps` (or stop before step `until`, saved), validating and saving on the way.

        A signal (`signals.SIGNALS`) on any rank ends the run on all of them after the present step, saved: Interrupted
        for Ctrl-C, Preempted for the others.
        """
        stop = self.config.steps if until is None else min(until, self.config.steps)
        self._describe()
        if self.ranks.is_first:
            self.trackers = trackers(self.out, self.config.log, to_dict(self.config), self.next_step)
        try:
            with stop_requests() as request:
                self._train(stop, request)
        finally:
            self.saver.close()
            for tracker in self.trackers:
                tracker.close()

    def _train(self, stop: int, request: StopRequest) -> None:
        self.model.train()
        while self.next_step < stop:
            if self.ranks.any(request.signal is not None or self.saver.failed):
                self._end_early(request)
            self._log(self.step(self.next_step))
            self.next_step += 1
            if self.next_step % self.config.validate_every == 0 or self.next_step == self.config.steps:
                self._log(self.validate())
                self._draw_samples()
            if self.next_step % self.config.checkpoint.every == 0:
                self.save()
        self._finish_saving()

    def _end_early(self, request: StopRequest) -> None:
        """Save and raise: what failed in the background, or that a signal came."""
        self._finish_saving()
        by = ", ".join(self.ranks.gather([request.signal.name] if request.signal else []))
        error = Interrupted if "SIGINT" in by else Preempted
        raise error(f"stopped by {by}, saved after {self.next_step} steps; the same command goes on from there")

    def _finish_saving(self) -> None:
        if self.next_step > self.saved_step:
            self.save()
        self.saver.wait()

    def step(self, step: int) -> dict[str, Any]:
        """One optimizer step over a global batch; returns its line for the log."""
        self.meter.begin()
        # Dropout follows from the seed, the step and the rank: a resumed run draws what an undisturbed one does.
        seeds = np.random.SeedSequence([self.config.seed, step, self.ranks.rank])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))
        batches = self.loader.micro_batches(step, self.layout.data_index)
        # Normalised by the weight of the whole global batch: the same whatever ranks and micro-batches it is cut into.
        own = sum((_totals(batch) for batch in batches), np.zeros(3)) / self.config.parallel.context
        weight, tokens, squares = self.layout.sum(torch.from_numpy(own).to(self.ranks.device)).tolist()
        loss_sum, z_sum = torch.zeros(2, dtype=torch.float64, device=self.ranks.device)
        sums = torch.zeros(2, len(LOSS_KINDS), dtype=torch.float64, device=self.ranks.device)
        losses: list[tuple[Batch, Tensor]] = []
        for micro_batch in batches:
            ids, positions, targets, weights, kinds = as_tensors(micro_batch, self.layout)
            hidden = self.model(ids, positions, micro_batch.lengths)
            total, nll, log_z = self.model.lm_head.loss(hidden, targets, weights, self.config.z_loss)
            # FSDP averages gradients over the ranks with other tokens; the loss is a sum over them.
            (total * (self.layout.tokens_size / weight)).backward()
            loss_sum += total.detach()
            z_sum += self.config.z_loss * (log_z.square() * weights).sum()
            sums += sums_by_kind(nll, kinds)
            losses.append((micro_batch, nll))
        loss = self.layout.sum(loss_sum).item() / weight
        sums = self.layout.sum(sums)
        if not math.isfinite(loss):
            raise loss_error(step, losses, self.corpus, self.layout)
        norm = clip_gradients(self.model, self.config.optimizer.grad_clip)
        if not math.isfinite(norm):
            raise gradient_error(step, loss, norm, self.model, self.ranks)
        rate = self.config.optimizer.rate(step, self.config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.tokens += int(tokens)
        epoch, batch = self.loader.place(step)
        return {
            "step": step,
            "loss": loss,
            **means_by_kind(sums),
            **({"z_loss": self.layout.sum(z_sum).item() / weight} if self.config.z_loss else {}),
            "lr": rate,
            "grad_norm": norm,
            **self.meter.end(step, tokens, squares),
            "epoch": epoch + (batch + 1) / self.loader.batches(epoch),
            "tokens": self.tokens,
        }

    def validate(self) -> dict[str, Any]:
        """The line of a validation: NLL by kind, the same with every document's codes shuffled, reference entropies."""
        if self.heldout is None:
            return {"step": self.next_step, "validation": None}
        rows = self.config.validate_rows
        plain = validate(self.model, self.heldout, self.layout, rows)
        shuffled = validate(self.model, self.heldout, self.layout, rows, shuffle_vision=True)
        return {
            "step": self.next_step,
            "validation": plain,
            "vision_shuffled": shuffled.get("vision"),
            "unigram_entropy": self._unigram_entropy,
        }

    def _draw_samples(self) -> None:
        """Draw on the first rank with the whole model, while the others wait: that works however it is split."""
        if self.draw is None:
            return
        whole = whole_decoder(self.model, self.ranks, self.config.precision)
        if whole is not None:
            folder = self.out / "samples" / f"step-{self.next_step:06d}"
            self.draw(whole, folder)
            self.say(f"drew {folder}")
        self.ranks.wait()

    def save(self) -> None:
        """Begin to write the checkpoint of the steps made so far."""
        state = checkpoint.TrainState(
            step=self.next_step,
            recipe=to_dict(self.config),
            vocabulary=self.corpus.vocab.to_json(),
            tokenizer=self.corpus.tokenizer,
            data=self.corpus.fingerprint,
            version=__version__,
            tokens=self.tokens,
        )
        path = self.saver.save(state, self.model, self.optimizer)
        self.saved_step = self.next_step
        self.say(f"saving {path}")

    @cached_property
    def _unigram_entropy(self) -> dict[str, float]:
        return unigram_entropy(self.corpus, self.training)

    def _describe(self) -> None:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.say(f"{parameters:,} parameters on {self.ranks.size} x {self.ranks.device.type}")
        for line in beginning(self.loader, len(self.heldout.documents) if self.heldout else 0):
            self.say(line)
        if self.meter.peak:
            self.say(f"MFU: {CONVENTION}; of {self.meter.peak / 1e12:,.0f} TFLOP/s, dense bfloat16, on all GPUs")

    def _log(self, line: dict[str, Any]) -> None:
        for tracker in self.trackers:
            tracker.write(line)
        self.say(readable(line, self.config.steps))


def _totals(batch: Batch) -> npt.NDArray[np.float64]:
    """Weight of the loss, predictions, and the sum of the squares of the documents' lengths."""
    squares = sum(length**2 for length, document in zip(batch.lengths, batch.documents, strict=True) if document >= 0)
    return np.array([batch.weights.sum(dtype=np.float64), (batch.kinds >= 0).sum(), squares], dtype=np.float64)
