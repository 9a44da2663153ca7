"""The training loop that all objectives share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from reelmill import __version__
from reelmill.config import to_dict
from reelmill.train import checkpoint
from reelmill.train.ahead import Ahead
from reelmill.train.collector import collected_between_steps
from reelmill.train.config import TrainConfig
from reelmill.train.data.batches import Batch
from reelmill.train.estimate import CONVENTION
from reelmill.train.gather_full import gather_full_decoder
from reelmill.train.health import Health
from reelmill.train.init_from import learned_by, load_init_weights
from reelmill.train.meter import Meter
from reelmill.train.metrics import format_step
from reelmill.train.model import Decoder
from reelmill.train.nonfinite import NotFinite, examine_gradient, examine_loss
from reelmill.train.objectives import objective_class
from reelmill.train.objectives.interface import DataSource
from reelmill.train.optimizer import make_optimizer
from reelmill.train.parallel import Layout, Ranks, clip_gradients, initialize, sharded_decoder
from reelmill.train.resume import last_sound
from reelmill.train.saver import Saver
from reelmill.train.signals import STOP_FILE, StopRequest, stop_requests, stopped
from reelmill.train.spikes import Spike, SpikeGuard
from reelmill.train.trackers import Tracker, trackers

SampleFn = Callable[[Decoder, Path], None]
"""Samples from the full model and writes the results to a folder."""


class Trainer:
    """One run: model, optimizer and data on this rank, at the step of the last checkpoint in `out`.

    `out/metrics.jsonl` gets a line a step and a line a validation, `out/checkpoints/` the checkpoints.
    """

    def __init__(
        self,
        config: TrainConfig,
        source: DataSource,
        out: Path,
        ranks: Ranks,
        log_fn: Callable[[str], None],
        sample_fn: SampleFn | None = None,
        metrics_fn: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        config.log.check()
        self.config, self.source, self.out, self.ranks = config, source, out, ranks
        self.sample_fn, self.metrics_fn = sample_fn, metrics_fn
        self.log_fn = log_fn if ranks.is_first else lambda _: None
        self.layout = layout = Layout.of(config.parallel, config.model, config.data.context, ranks)
        self.objective = objective_class(config.objective)(config, source, layout)
        # What a checkpoint will replace is not drawn: it takes minutes at 34B.
        with ranks.together():
            last = checkpoint.latest(out / "checkpoints")
        self._is_drawn = not ranks.any(last is not None)
        seed = config.seed if self._is_drawn else None
        self.model = sharded_decoder(config.model, layout, config.precision, seed)
        self.optimizer = make_optimizer(self.model, config.optimizer, self.objective.apart)
        self.saver = Saver(out / "checkpoints", config.checkpoint, ranks)
        self.spikes = SpikeGuard(config.spikes)
        self._batches = Ahead(self.objective.micro_batches)
        self.meter = Meter(config.model, config.precision, ranks.device, ranks.size, config.steps)
        self.health = Health(ranks)
        self.trackers: list[Tracker] = []
        self.next_step = 0
        self.saved_step = 0
        self.tokens = 0
        self.learned: list[str] | None = []

    def resume(self) -> None:
        """Resume from the last complete checkpoint, or start from the weights of `config.init` if there is none."""
        self._load()
        self.objective.prepare(self.out, self.log_fn)

    def _load(self) -> None:
        last = last_sound(self.out / "checkpoints", self.ranks, self.log_fn)
        if last is None:
            if not self._is_drawn:  # all checkpoints are damaged
                initialize(self.model, self.config.seed)
            if self.config.init:
                vocab, tokenizer = self.source.vocab, self.source.tokenizer
                found = load_init_weights(Path(self.config.init), self.model, vocab, tokenizer)
                self.log_fn(f"begins with the {found}")
                self.learned = learned_by(Path(self.config.init))
            self._learn()
            return
        with self.ranks.together():
            state = checkpoint.read_state(last)
            defaults = TrainConfig(objective=self.config.objective)
            more = checkpoint.check_same_run(state, self.config, defaults, self.source.fingerprint, last)
        self._take(last, state)
        self.spikes.load(state.spikes)
        self.learned = state.learned
        self._learn()
        self.log_fn(f"resumed from {last}{more}")

    def _take(self, last: Path, state: checkpoint.TrainState) -> None:
        """Stand where a checkpoint was written."""
        checkpoint.load_weights(last / "model", self.model)
        checkpoint.load_optimizer(last / "optimizer", self.model, self.optimizer)
        self.next_step, self.saved_step, self.tokens = state.step, state.step, state.tokens

    def _learn(self) -> None:
        if self.learned is not None:
            self.learned = sorted({*self.learned, *self.objective.subjects()})

    def run(self, until: int | None = None) -> None:
        """Train up to `config.steps` (or stop before step `until`, saved), validating and saving on the way.

        A signal (`signals.SIGNALS`) on any rank, or a file `stop` in `out`, ends the run on all of them after the
        present step, saved: Interrupted for Ctrl-C, Preempted for the others.
        """
        stop = self.config.steps if until is None else min(until, self.config.steps)
        self._describe()
        if self.next_step >= self.config.steps:
            self.log_fn(f"all {self.config.steps:,} steps are done; with a larger `steps` the run goes on")
        self._open_log()
        try:
            stop_file = self.out / STOP_FILE if self.ranks.is_first else None
            with stop_requests(stop_file) as request, collected_between_steps() as collect:
                self._train(stop, request, collect)
        finally:
            self._batches.close()
            self.saver.close()
            for tracker in self.trackers:
                tracker.close()

    def _open_log(self) -> None:
        """Open the trackers; lines of steps that will be made again are dropped."""
        with self.ranks.together():
            if self.ranks.is_first:
                for tracker in self.trackers:
                    tracker.close()
                self.trackers = trackers(self.out, self.config.log, to_dict(self.config), self.next_step)

    def _train(self, stop: int, request: StopRequest, collect: Callable[[int], None]) -> None:
        self.model.train()
        while self.next_step < stop:
            if self.ranks.any(request.signal is not None or self.saver.failed):
                self._end_early(request)
            made = self.step(self.next_step, more=self.next_step + 1 < stop)
            if isinstance(made, Spike):
                self._answer(made)
                continue
            self._log(made)
            self.next_step += 1
            collect(self.next_step)
            if warning := self.health.warning():
                self.log_fn(warning)
            if self.next_step % self.config.validate_every == 0 or self.next_step == self.config.steps:
                self._log(self.validate())
                self._write_samples()
            if self.next_step % self.config.checkpoint.every == 0:
                self.save()
        self._finish_saving()

    def _end_early(self, request: StopRequest) -> None:
        """Save and raise: what failed in the background, or that a signal came."""
        self._finish_saving()
        raise stopped(self.ranks.gather([request.signal.name] if request.signal else []), self.next_step)

    def _finish_saving(self) -> None:
        if self.next_step > self.saved_step:
            self.save()
        self.saver.wait()

    def _answer(self, spike: Spike) -> None:
        """Leave out the batch of a spike, or go back to the last checkpoint and leave out all batches since."""
        self.optimizer.zero_grad()
        first, then = spike.batch, f"batch {spike.batch + 1} is left out and the step is made with the next"
        last = None
        if self.config.spikes.action == "rollback":
            self.saver.wait()
            last = last_sound(self.out / "checkpoints", self.ranks, self.log_fn)
        if last is not None:
            state = checkpoint.read_state(last)
            first = self.spikes.batch(state.step)
            then = f"the run goes back to {last}, and batches {first + 1} to {spike.batch + 1} are left out"
        self.log_fn(f"step {spike.step + 1} is a spike: {spike.reason}; {then}")
        self.spikes.leave_out(spike, first)
        if last is not None:
            self._take(last, state)
            self.spikes.load(state.spikes, history_only=True)
            self._open_log()

    def step(self, step: int, *, more: bool = False) -> dict[str, Any] | Spike:
        """One optimizer step over a global batch; returns its line for the log, or why it was not made.

        With `more` the next step's batches are made in the meantime.
        """
        self.meter.begin()
        # Dropout follows from the seed, the step and the rank: a resumed run draws what an undisturbed one does.
        seeds = np.random.SeedSequence([self.config.seed, step, self.ranks.rank])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))
        number = self.spikes.batch(step)
        with self.health.waiting_for_data():
            batches = self._batches.get(number, more=more)
        # Normalized by the whole global batch: the same whatever ranks and micro-batches it is cut into.
        own = np.sum([[*self.objective.denominators(batch), *_sizes(batch)] for batch in batches], axis=0)
        own = torch.from_numpy(own / self.config.parallel.context).to(self.ranks.device)
        *denominators, tokens, squares = self.layout.sum(own).tolist()
        losses: list[tuple[Batch, Tensor]] = []
        sums: list[Tensor] = []
        for count, micro_batch in enumerate(batches, 1):
            if isinstance(self.model, FSDPModule):
                # Copies of the weights (HSDP) sum their gradients once a step, not once a micro-batch.
                self.model.set_requires_all_reduce(count == len(batches))
            total, part, nll = self.objective.loss(self.model, micro_batch, denominators)
            # FSDP averages gradients over the ranks with other tokens; the loss is a sum over them.
            (total * self.layout.tokens_size).backward()  # type: ignore[no-untyped-call]
            sums.append(part)
            losses.append((micro_batch, nll))
        self._fill_gradients()
        metrics = self.objective.metrics(self.layout.sum(torch.stack(sums).sum(0)))
        loss = metrics["loss"]
        if not math.isfinite(loss):
            return self._refused(step, number, examine_loss(losses, self.source, self.layout))
        norm = clip_gradients(self.model, self.config.optimizer.grad_clip)
        if not math.isfinite(norm):
            return self._refused(step, number, examine_gradient(loss, norm, self.model, self.ranks))
        if self.spikes.is_on:
            reason = self.spikes.reason(loss, norm)
            if self.ranks.any(reason is not None):  # all decide alike, whatever the last bit of a rank's sum
                return Spike(step, number, reason or "another rank says so")
            self.spikes.made(loss, norm)
        rate = self.config.optimizer.rate(step, self.config.steps)
        factor, factor_apart = self.objective.rate_factors(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * (factor_apart if group["is_apart"] else factor)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.tokens += int(tokens)
        return {
            "step": step + 1,
            **metrics,
            "lr": rate,
            "grad_norm": norm,
            **self.meter.end(step, tokens, squares),
            **self.health.line(),
            "epoch": self.objective.epoch(number),
            "tokens": self.tokens,
            **({"batches_left_out": self.spikes.batches_left_out} if self.spikes.batches_left_out else {}),
        }

    def _refused(self, step: int, number: int, found: NotFinite) -> Spike:
        """What is not finite is a spike where spikes are answered, else an error."""
        if not self.spikes.is_on:
            raise found.error(step)
        return Spike(step, number, found.reason)

    def _fill_gradients(self) -> None:
        """What an objective left alone in this step has gradients of 0: so the optimizer's state is of all parameters,
        and a checkpoint's always the same."""
        for parameter in self.model.parameters():
            if parameter.grad is None and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)

    def validate(self) -> dict[str, Any]:
        """The line of a validation."""
        return {"step": self.next_step, **self.objective.validate(self.model)}

    def _write_samples(self) -> None:
        """Sample from the full model on the first rank, while the others wait. Works with any sharding."""
        if self.sample_fn is None:
            return
        model = gather_full_decoder(self.model, self.ranks, self.config.precision)
        if model is not None:
            folder = self.out / "samples" / f"step-{self.next_step:06d}"
            self.sample_fn(model, folder)
            self.log_fn(f"drew {folder}")
        self.ranks.wait()

    def save(self) -> None:
        """Start writing the checkpoint of the steps made so far."""
        state = checkpoint.TrainState(
            step=self.next_step,
            recipe=to_dict(self.config),
            vocabulary=self.source.vocab.to_json(),
            tokenizer=self.source.tokenizer,
            data=self.source.fingerprint,
            version=__version__,
            tokens=self.tokens,
            learned=self.learned,
            spikes=self.spikes.state(),
        )
        # In this order: `state_dict` splits what FSDP still holds gathered; the optimizer knows split parameters only.
        parts = {"model": dict(self.model.state_dict())}
        parts["optimizer"] = checkpoint.optimizer_tensors(self.model, self.optimizer)
        path = self.saver.save(state, parts)
        self.saved_step = self.next_step
        self.log_fn(f"saving {path}")

    def _describe(self) -> None:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.log_fn(f"{parameters:,} parameters on {self.ranks.size} x {self.ranks.device.type}")
        for line in self.objective.describe():
            self.log_fn(line)
        if self.meter.peak:
            self.log_fn(f"MFU: {CONVENTION}; of {self.meter.peak / 1e12:,.0f} TFLOP/s, dense bfloat16, on all GPUs")

    def _log(self, metrics: dict[str, Any]) -> None:
        for tracker in self.trackers:
            tracker.write(metrics)
        if self.metrics_fn is not None:
            if self.ranks.is_first:
                self.metrics_fn(metrics)
        elif "validation" not in metrics:
            self.log_fn(format_step(metrics, self.objective.shown, self.config.steps))
        elif metrics["validation"] is None:
            share = self.config.data.heldout
            why = f"too few items for data.heldout {share:g}, of a single one none is" if share else "data.heldout is 0"
            self.log_fn(f"validation: no held-out items ({why})")
        else:
            self.log_fn(self.objective.format_validation(metrics))


def _sizes(batch: Batch) -> npt.NDArray[np.float64]:
    """Predictions of a batch, and the sum of the squares of its documents' lengths."""
    lengths = [length for length, document in zip(batch.lengths, batch.documents, strict=True) if document >= 0]
    return np.array([sum(lengths), sum(length**2 for length in lengths)], dtype=np.float64)
