"""The training loop of a vision tokenizer: alone, or under torchrun by DDP or FSDP2; exact to resume.

OUT/NAME.safetensors   the tokenizer (moving average of the weights), which `tokenize.vision.load` takes
OUT/state.pt           all that a killed run needs to go on bit for bit
OUT/log.jsonl          every loss term each `log_every` steps, held-out scores at every checkpoint
OUT/pictures/          held-out originals above their reconstructions, a folder a checkpoint
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reelmill.config import differences, free, from_dict, identity, to_dict
from reelmill.errors import ConfigError, ReelmillError
from reelmill.files import write_atomically
from reelmill.tokenize.vision.architectures import build
from reelmill.tokenize.vision.evaluate import evaluate
from reelmill.tokenize.vision.ibq import IBQConfig
from reelmill.tokenize.vision.index_backprop import IndexBackprop
from reelmill.tokenize.vision.movq import MoVQConfig
from reelmill.tokenize.vision.perceptual import load_lpips
from reelmill.tokenize.vision.tokenizer import Frames, VisionTokenizer, save
from reelmill.train.parallel import Device, Precision, Ranks
from reelmill.train.vision.data import Crops, DataConfig, as_signal, batches
from reelmill.train.vision.discriminator import PatchDiscriminator, discriminator_loss, generator_loss
from reelmill.train.vision.fit import fit
from reelmill.train.vision.init_from import init_from
from reelmill.train.vision.losses import LossConfig, perceptual_term, pixel_terms, similarity_term
from reelmill.train.vision.media import Source, fingerprint
from reelmill.train.vision.parallel import load_state, state_of, trainable
from reelmill.train.vision.revival import Revival
from reelmill.train.vision.semantic import Distillation


@dataclass(frozen=True)
class AdamConfig:
    """AdamW, a linear warm-up and a cosine over all steps to 1 % of the peak. The discriminator's rate is constant."""

    lr: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.01
    warmup_steps: int = 100
    clip_norm: float = 1.0
    discriminator_lr: float = 2e-4

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of `step` (from 0) in a run of `steps`."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return self.lr * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)


@dataclass(frozen=True)
class TokenizerRecipe:
    """How to train a tokenizer. `name` is what it will be called; `ema` the decay of the average that is kept."""

    name: str
    model: MoVQConfig | IBQConfig
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: AdamConfig = field(default_factory=AdamConfig)
    steps: int = free(10_000)
    """May change when a run goes on: the learning rate follows the new end."""
    ema: float = 0.998
    revive_every: int = 0
    """Every so many steps codes that went unused become vectors of the batch (learned codebooks only; 0: never). Not in
    the last third of the steps: while the learning rate ends, codes settle."""
    fit: int = 0
    """Before the first step the shortcut and the codebook are fitted to so many patches (`fit.py`; 0: not)."""
    init: str = ""
    """The tokenizer whose weights training begins with: a shipped one's name or a file ("": random ones)."""
    train_only: Literal["all", "decoder"] = "all"
    """`decoder`: the encoder and the codebook of `init` stay as they are, and with them every code."""
    seed: int = 0
    precision: Precision = "float32"
    parallel: Literal["ddp", "fsdp"] = "ddp"
    device: Device = free("auto")
    log_every: int = free(100)
    checkpoint_every: int = free(1_000)

    def __post_init__(self) -> None:
        if self.train_only == "decoder" and (not self.init or self.fit or self.revive_every):
            raise ConfigError(
                f"train_only is decoder with init {self.init!r}, fit {self.fit} and revive_every {self.revive_every}: "
                "name the tokenizer whose codes are kept as init, and set the other two to 0, for both change codes"
            )


class Trainer:
    """One run on this rank: tokenizer, its moving average, discriminator, optimizers."""

    def __init__(
        self,
        recipe: TokenizerRecipe,
        sources: Sequence[Source],
        held_out: dict[str, Frames],
        out: Path,
        ranks: Ranks,
        log_fn: Callable[[str], None] = print,
    ) -> None:
        self.recipe, self.held_out, self.out, self.ranks, self.log_fn = recipe, held_out, out, ranks, log_fn
        self.crops = Crops(sources, recipe.data)
        self.data_fingerprint = fingerprint(sources)
        torch.manual_seed(recipe.seed)
        model, average = build(recipe.model), build(recipe.model)
        if recipe.init:
            init_from(model, recipe.init)
        average.load_state_dict(model.state_dict())
        if recipe.train_only == "decoder":
            model.freeze_codes()
        if isinstance(model.quantize, IndexBackprop):
            model.quantize.with_entropy = recipe.loss.entropy > 0
        self.model = trainable(model, ranks, recipe.parallel)
        self.average = trainable(average.requires_grad_(False), ranks, recipe.parallel)
        config = recipe.optimizer
        self.optimizer = torch.optim.AdamW(
            [parameter for parameter in self.model.parameters() if parameter.requires_grad],
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.lpips = load_lpips().to(ranks.device) if recipe.loss.lpips else None
        self.discriminator: nn.Module | None = None
        if recipe.loss.adversarial:
            self.discriminator = trainable(PatchDiscriminator(), ranks, "ddp")
            self.discriminator_optimizer = torch.optim.AdamW(
                self.discriminator.parameters(), lr=config.discriminator_lr, betas=(0.5, 0.9)
            )
        self.semantic: Distillation | None = None
        if recipe.loss.semantic:
            self.semantic = Distillation(model, recipe.loss.semantic_model, config.lr, ranks)
        self.revival = Revival(recipe.model.codes, ranks) if recipe.revive_every else None
        self.step = 0

    def run(self, until: int | None = None) -> None:
        """Train to the last step (or to `until`), logging, and checkpoint on the way and at the end."""
        last = self.recipe.steps if until is None else min(until, self.recipe.steps)
        steps = range(self.step, last)
        if self.step == 0 and self.recipe.fit:
            fit(
                [self.model, self.average],
                self.crops,
                self.recipe.fit,
                self.recipe.model.codes,
                self.recipe.seed,
                self.ranks,
            )
        window: dict[str, list[float]] = {}
        began, saved = time.monotonic(), self.step
        stream = batches(self.crops, steps, self.recipe.seed, self.ranks.rank, self.recipe.model.temporal_factor)
        for pictures, clips in stream:
            for key, value in self.train_step(pictures, clips).items():
                window.setdefault(key, []).append(value)
            if self.step % self.recipe.log_every == 0:
                seconds, began = time.monotonic() - began, time.monotonic()
                rate = self.recipe.optimizer.rate(self.step, self.recipe.steps)
                # A term may have started, or the run resumed, amid the window: each has a count of its own.
                means = {key: sum(values) / len(values) for key, values in window.items()}
                self._log({"step": self.step, "lr": rate, **means, "seconds": seconds})
                window = {}
            if self.step % self.recipe.checkpoint_every == 0:
                self.checkpoint()
                saved = self.step
        if self.step > saved:
            self.checkpoint()

    def train_step(self, pictures: Tensor, clips: Tensor) -> dict[str, float]:
        """One step on uint8 pictures [P, S, S, 3] and clips [B, T, S, S, 3]; returns each loss term of this rank."""
        still, moving = (as_signal(frames.to(self.ranks.device)) for frames in (pictures, clips))
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.optimizer.rate(self.step, self.recipe.steps)
        loss = self.recipe.loss
        with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            outputs = self.model(still, moving)
        terms = pixel_terms(outputs, still, moving)
        if self.lpips is not None and self.step >= loss.lpips_start:
            terms["lpips"] = perceptual_term(self.lpips, outputs, still, moving)
        if loss.ssim:
            terms["ssim"] = similarity_term(outputs, still, moving)
        if loss.entropy and outputs.entropy is not None:
            terms["entropy"] = outputs.entropy
        if self.semantic is not None:
            terms["semantic"] = self.semantic.term(torch.cat([moving.flatten(0, 1), still]))
        fake = torch.cat([outputs.pictures, outputs.clips.flatten(0, 1)]).float()
        adversarial = self.discriminator is not None and self.step >= loss.adversarial_start
        if adversarial:
            terms["adversarial"] = self._judged(fake)
        total = sum((getattr(loss, key) * value for key, value in terms.items()), start=torch.zeros(()))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optimizer.clip_norm))
        value = float(total.detach())
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise ReelmillError(
                f"step {self.step}: the loss is {value} and the gradient norm {norm}; nothing was updated. Train "
                "again with a lower optimizer.lr; the last checkpoint is sound."
            )
        self.optimizer.step()
        if self.semantic is not None:
            self.semantic.step()
        values = {key: float(term.detach()) for key, term in terms.items()} | {"total": value, "norm": norm}
        if adversarial:
            values["discriminator"] = self._train_discriminator(torch.cat([still, moving.flatten(0, 1)]), fake.detach())
        self.step += 1
        self._update_average()
        if self.revival is not None:
            self.revival.count(outputs.codes)
            if self.step % self.recipe.revive_every == 0 and self.step <= self.recipe.steps * 2 // 3:
                # In the average too: otherwise a code would be on its way there for thousands of steps.
                models = [self.model, self.average]
                values["revived"] = self.revival.revive(models, outputs.vectors.detach(), self.recipe.seed + self.step)
        return values

    def checkpoint(self) -> None:
        """Write the tokenizer, its scores and pictures on the held-out media, and the state to resume from."""
        average, state = state_of(self.average), self._state()
        if self.ranks.is_first:
            whole = build(self.recipe.model)
            whole.load_state_dict(average)
            save(whole, self.recipe.name, self.out / f"{self.recipe.name}.safetensors")
            write_atomically(self.out / "state.pt", lambda temporary: torch.save(state, temporary))
            pictures = self.out / "pictures" / f"step-{self.step:07d}"
            scores = evaluate(VisionTokenizer(whole, self.recipe.name), self.held_out, pictures)
            self._log({"step": self.step, **scores})
        self.ranks.wait()

    def resume(self) -> None:
        """Go on from `state.pt`, if there is one; ConfigError where recipe or media differ from those of its run."""
        path = self.out / "state.pt"
        if not path.is_file():
            return
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        recipe = json.loads(state["recipe"])
        # What an older state does not say is as by default.
        changed = differences(identity(from_dict(TokenizerRecipe, recipe)), identity(self.recipe))
        if state["data"] != self.data_fingerprint:
            changed.append("the training media")
        if changed:
            raise ConfigError(
                f"{path} is of a run with other settings; changed since: {'; '.join(changed)}. Go on with the old "
                "ones, or train into another folder."
            )
        load_state(self.model, self.optimizer, state["model"], state["optimizer"])
        load_state(self.average, None, state["average"], None)
        if self.discriminator is not None:
            load_state(
                self.discriminator,
                self.discriminator_optimizer,
                state["discriminator"],
                state["discriminator_optimizer"],
            )
        if self.semantic is not None:
            self.semantic.load(state)
        if self.revival is not None:
            self.revival.use.copy_(state["use"])
        self.step = state["step"]
        self.log_fn(f"resumed at step {self.step}")

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = {
            "step": self.step,
            "recipe": json.dumps(to_dict(self.recipe)),
            "data": self.data_fingerprint,
            "model": state_of(self.model),
            "optimizer": state_of(self.model, self.optimizer),
            "average": state_of(self.average),
        }
        if self.discriminator is not None:
            state["discriminator"] = state_of(self.discriminator)
            state["discriminator_optimizer"] = state_of(self.discriminator, self.discriminator_optimizer)
        if self.semantic is not None:
            state |= self.semantic.state()
        if self.revival is not None:
            state["use"] = self.revival.use.cpu()
        return state

    def _judged(self, fake: Tensor) -> Tensor:
        """What the discriminator makes of reconstructions, without a gradient for the discriminator itself."""
        assert self.discriminator is not None
        judge: nn.Module = getattr(self.discriminator, "module", self.discriminator)
        judge.requires_grad_(False)
        loss = generator_loss(judge(fake))
        judge.requires_grad_(True)
        return loss

    def _train_discriminator(self, real: Tensor, fake: Tensor) -> float:
        assert self.discriminator is not None
        judgements = self.discriminator(torch.cat([real, fake]))
        loss = discriminator_loss(*judgements.split([len(real), len(fake)]))
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.discriminator_optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        for kept, buffer in zip(self.average.buffers(), self.model.buffers(), strict=True):
            kept.copy_(buffer)

    def _log(self, row: dict[str, Any]) -> None:
        if not self.ranks.is_first:
            return
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        self.log_fn("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
