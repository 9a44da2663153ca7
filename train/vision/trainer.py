"""The training loop of a vision tokenizer: alone, or under torchrun by DDP or FSDP2; exact to resume.

OUT/NAME.safetensors   the tokenizer (moving average of the weights), which `tokenize.vision.load` takes
OUT/checkpoints/       everything that a stopped run needs to go on exactly (`saver.py`)
OUT/metrics.jsonl      mean loss terms of every `log_every` steps, held-out scores at every checkpoint
OUT/pictures/          held-out originals above their reconstructions, a folder per checkpoint
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reelmill import __version__
from reelmill.config import to_dict
from reelmill.errors import ConfigError
from reelmill.tokenize.vision.architectures import build
from reelmill.tokenize.vision.evaluate import evaluate
from reelmill.tokenize.vision.tokenizer import Frames, VisionTokenizer, save
from reelmill.train import checkpoint
from reelmill.train.parallel import Ranks
from reelmill.train.resume import last_sound
from reelmill.train.saver import Saver
from reelmill.train.signals import STOP_FILE, StopRequest, stop_requests, stopped
from reelmill.train.trackers import Tracker, trackers
from reelmill.train.vision.config import TokenizerRecipe
from reelmill.train.vision.data import Crops, batches
from reelmill.train.vision.media import MediaFile, fingerprint
from reelmill.train.vision.networks import Networks


class Trainer:
    """One run: networks and data on this rank, at the step of the last checkpoint in `out`."""

    def __init__(
        self,
        recipe: TokenizerRecipe,
        sources: Sequence[MediaFile],
        held_out: dict[str, Frames],
        out: Path,
        ranks: Ranks,
        log_fn: Callable[[str], None] = print,
    ) -> None:
        recipe.log.check()
        self.recipe, self.held_out, self.out, self.ranks, self.log_fn = recipe, held_out, out, ranks, log_fn
        self.crops = Crops(sources, recipe.data)
        self.data_fingerprint = fingerprint(sources)
        self.networks = Networks(recipe, ranks)
        self.saver = Saver(out / "checkpoints", recipe.checkpoint, ranks)
        self.trackers: list[Tracker] = []
        self.next_step = self.saved_step = 0
        self._window: dict[str, list[float]] = {}

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one; ConfigError where recipe or media differ from its run's."""
        last = last_sound(self.out / "checkpoints", self.ranks, self.log_fn)
        if last is None:
            if (self.out / "state.pt").is_file():
                raise ConfigError(
                    f"{self.out} was trained by an earlier version (state.pt), and this one cannot go on from there. "
                    f"Start from its tokenizer in another folder: --set init={self.out / self.recipe.name}.safetensors"
                )
            return
        with self.ranks.together():
            state = checkpoint.read_state_as(checkpoint.RunState, last)
            defaults = TokenizerRecipe(name=self.recipe.name, model=self.recipe.model)
            more = checkpoint.check_same_run(state, self.recipe, defaults, self.data_fingerprint, last)
        self.networks.load(last)
        self.next_step = self.saved_step = state.step
        self.log_fn(f"resumed from {last}{more}")

    def run(self, until: int | None = None) -> None:
        """Train to the last step, or stop before step `until`, saved; checkpoint on the way.

        A signal (`signals.SIGNALS`) on any rank, or a file `stop` in `out`, ends the run on all of them after the
        present step, saved: Interrupted for Ctrl-C, Preempted for the others.
        """
        stop = self.recipe.steps if until is None else min(until, self.recipe.steps)
        with self.ranks.together():
            if self.ranks.is_first:
                first = self.recipe.log_every
                self.trackers = trackers(self.out, self.recipe.log, to_dict(self.recipe), self.next_step, first)
        try:
            with stop_requests(self.out / STOP_FILE if self.ranks.is_first else None) as request:
                self._train(stop, request)
        finally:
            self.saver.close()
            for tracker in self.trackers:
                tracker.close()

    def _train(self, stop: int, request: StopRequest) -> None:
        recipe = self.recipe
        if self.next_step == 0 and recipe.fit:
            self.networks.fit(self.crops)
        steps = range(self.next_step, stop)
        began = time.monotonic()
        stream = batches(self.crops, steps, recipe.seed, self.ranks.rank, recipe.model.temporal_factor)
        for step, (pictures, clips) in zip(steps, stream, strict=True):
            if self.ranks.any(request.signal is not None or self.saver.failed):
                self._end_early(request)
            for key, value in self.networks.train_step(step, pictures, clips).items():
                self._window.setdefault(key, []).append(value)
            self.next_step = step + 1
            if self.next_step % recipe.log_every == 0:
                seconds, began = time.monotonic() - began, time.monotonic()
                self._log_window(step, seconds)
            if self.next_step % recipe.checkpoint.every == 0:
                self._save()
                self._evaluate()
        if self.next_step > self.saved_step:
            self._save()
            self._evaluate()
        self.saver.wait()

    def _end_early(self, request: StopRequest) -> None:
        """Save and raise: what failed in the background, or that a signal came."""
        if self.next_step > self.saved_step:
            self._save()
        self.saver.wait()
        raise stopped(self.ranks.gather([request.signal.name] if request.signal else []), self.next_step)

    def _save(self) -> None:
        """Begin to write the checkpoint of the steps made so far."""
        state = checkpoint.RunState(
            step=self.next_step, recipe=to_dict(self.recipe), data=self.data_fingerprint, version=__version__
        )
        self.saver.save(state, self.networks.tensors())
        self.saved_step = self.next_step

    def _evaluate(self) -> None:
        """Write the tokenizer, and its scores and pictures on the held-out media."""
        average = self.networks.full_average()
        if self.ranks.is_first:
            whole = build(self.recipe.model)
            whole.load_state_dict(average)
            save(whole, self.recipe.name, self.out / f"{self.recipe.name}.safetensors")
            pictures = self.out / "pictures" / f"step-{self.next_step:07d}"
            scores = evaluate(VisionTokenizer(whole, self.recipe.name), self.held_out, pictures)
            self._log({"step": self.next_step, "validation": scores})
        self.ranks.wait()

    def _log_window(self, step: int, seconds: float) -> None:
        """Log the mean of each loss term since the last line."""
        # A term may have started amid the window, and so may a resumed run: each term has a count of its own.
        means = {key: sum(values) / len(values) for key, values in self._window.items()}
        rate = self.recipe.optimizer.rate(step, self.recipe.steps)
        self._window.clear()
        if self.ranks.is_first:
            self._log({"step": step + 1, **means, "lr": rate, "seconds": seconds})

    def _log(self, metrics: dict[str, Any]) -> None:
        for tracker in self.trackers:
            tracker.write(metrics)
        values = metrics.get("validation", {key: value for key, value in metrics.items() if key != "step"})
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        where = f"validation after step {self.next_step}" if "validation" in metrics else f"step {self.next_step}"
        self.log_fn(f"{where}  {numbers}")
