"""The networks of a tokenizer's training on one rank, their optimizers, and one step of them."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from reelmill.errors import ReelmillError
from reelmill.tokenize.vision.architectures import build
from reelmill.tokenize.vision.index_backprop import IndexBackprop
from reelmill.tokenize.vision.perceptual import load_lpips
from reelmill.train.checkpoint import Parts, load_optimizer, load_tensors, load_weights, optimizer_tensors
from reelmill.train.optimizer import make_optimizer
from reelmill.train.parallel import Ranks, clip_gradients
from reelmill.train.vision.config import TokenizerRecipe
from reelmill.train.vision.data import Crops, as_signal
from reelmill.train.vision.discriminator import PatchDiscriminator, discriminator_loss, generator_loss
from reelmill.train.vision.fit import fit
from reelmill.train.vision.init_from import init_from
from reelmill.train.vision.losses import perceptual_term, pixel_terms, similarity_term
from reelmill.train.vision.parallel import full_state, trainable, unwrapped
from reelmill.train.vision.revival import Revival
from reelmill.train.vision.semantic import Distillation


class Networks:
    """The tokenizer, its moving average, and, where the recipe has them, a discriminator and the map of SigLIP's
    features; with their optimizers."""

    def __init__(self, recipe: TokenizerRecipe, ranks: Ranks) -> None:
        self.recipe, self.ranks = recipe, ranks
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
        self.optimizer = make_optimizer(self.model, recipe.optimizer)
        self.lpips = load_lpips().to(ranks.device) if recipe.loss.lpips else None
        self.discriminator: nn.Module | None = None
        if recipe.loss.adversarial:
            self.discriminator = trainable(PatchDiscriminator(), ranks, "ddp")
            self.discriminator_optimizer = torch.optim.AdamW(
                self.discriminator.parameters(), lr=recipe.optimizer.discriminator_lr, betas=(0.5, 0.9)
            )
        self.semantic: Distillation | None = None
        if recipe.loss.semantic:
            self.semantic = Distillation(model, recipe.loss.semantic_model, recipe.optimizer.lr, ranks)
        self.revival = Revival(recipe.model.codes, ranks) if recipe.revive_every else None

    def fit(self, crops: Crops) -> None:
        """Fit the shortcut and the codebook to pictures, before the first step (`fit.py`)."""
        recipe = self.recipe
        fit([self.model, self.average], crops, recipe.fit, recipe.model.codes, recipe.seed, self.ranks)

    def train_step(self, step: int, pictures: Tensor, clips: Tensor) -> dict[str, float]:
        """Make step `step` (from 0) on uint8 pictures [P, S, S, 3] and clips [B, T, S, S, 3].

        Returns the loss, each of its terms on this rank, and the gradient's norm. Raises ReelmillError where the loss
        or the gradient is not finite; nothing is updated then.
        """
        recipe, loss = self.recipe, self.recipe.loss
        still, moving = (as_signal(frames.to(self.ranks.device)) for frames in (pictures, clips))
        with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            outputs = self.model(still, moving)
        terms = pixel_terms(outputs, still, moving)
        if self.lpips is not None and step >= loss.lpips_start:
            terms["lpips"] = perceptual_term(self.lpips, outputs, still, moving)
        if loss.ssim:
            terms["ssim"] = similarity_term(outputs, still, moving)
        if loss.entropy and outputs.entropy is not None:
            terms["entropy"] = outputs.entropy
        if self.semantic is not None:
            terms["semantic"] = self.semantic.term(torch.cat([moving.flatten(0, 1), still]))
        fake = torch.cat([outputs.pictures, outputs.clips.flatten(0, 1)]).float()
        is_adversarial = self.discriminator is not None and step >= loss.adversarial_start
        if is_adversarial:
            terms["adversarial"] = self._judged(fake)
        total = sum((getattr(loss, key) * value for key, value in terms.items()), start=torch.zeros(()))
        metrics = {"loss": float(total.detach()), **{key: float(term.detach()) for key, term in terms.items()}}
        metrics["grad_norm"] = self._update(step, total)
        if is_adversarial:
            real = torch.cat([still, moving.flatten(0, 1)])
            metrics["discriminator"] = self._train_discriminator(real, fake.detach())
        self._update_average(step)
        if self.revival is not None:
            self.revival.count(outputs.codes)
            made = step + 1
            if made % recipe.revive_every == 0 and made <= recipe.steps * 2 // 3:
                # In the average too: otherwise a code would be on its way there for thousands of steps.
                models = [self.model, self.average]
                metrics["revived"] = self.revival.revive(models, outputs.vectors.detach(), recipe.seed + made)
        return metrics

    def tensors(self) -> Parts:
        """Everything that a run needs to go on exactly, this rank's share of it. All ranks call this."""
        # In this order: `state_dict` splits what FSDP still holds gathered, and optimizers know the split parameters.
        parts: Parts = {name: dict(model.state_dict()) for name, model, _ in self._trained()}
        parts |= {
            f"{name}_optimizer": optimizer_tensors(model, optimizer)
            for name, model, optimizer in self._trained()
            if optimizer is not None
        }
        if self.revival is not None:
            parts["revival"] = {"use": self.revival.use}
        # safetensors takes no channels-last tensors.
        return {part: {name: x.contiguous() for name, x in tensors.items()} for part, tensors in parts.items()}

    def load(self, checkpoint: Path) -> None:
        """Fill everything from a checkpoint that `tensors` made. All ranks call this."""
        for name, model, optimizer in self._trained():
            load_weights(checkpoint / name, model)
            if optimizer is not None:
                load_optimizer(checkpoint / f"{name}_optimizer", model, optimizer)
        if self.revival is not None:
            load_tensors({"use": self.revival.use}, checkpoint / "revival")

    def full_average(self) -> dict[str, Tensor]:
        """The moving average whole, on the CPU. All ranks call this."""
        return full_state(self.average)

    def _trained(self) -> list[tuple[str, nn.Module, torch.optim.Optimizer | None]]:
        """Each network with its name in a checkpoint and its optimizer."""
        found: list[tuple[str, nn.Module, torch.optim.Optimizer | None]] = [
            ("model", unwrapped(self.model), self.optimizer),
            ("average", unwrapped(self.average), None),
        ]
        if self.discriminator is not None:
            found.append(("discriminator", unwrapped(self.discriminator), self.discriminator_optimizer))
        if self.semantic is not None:
            found.append(("semantic", unwrapped(self.semantic.head), self.semantic.optimizer))
        return found

    def _update(self, step: int, total: Tensor) -> float:
        """Backward and the tokenizer's optimizer step; returns the gradient's norm before clipping."""
        config = self.recipe.optimizer
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        norm = clip_gradients(self.model, config.grad_clip)
        value = float(total.detach())
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise ReelmillError(
                f"step {step + 1}: the loss is {value} and the gradient norm {norm}; nothing was updated. Train "
                "again with a lower optimizer.lr; the last checkpoint is sound."
            )
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(step, self.recipe.steps)
        self.optimizer.step()
        if self.semantic is not None:
            self.semantic.step()
        return norm

    def _judged(self, fake: Tensor) -> Tensor:
        """What the discriminator makes of reconstructions, without a gradient for the discriminator itself."""
        assert self.discriminator is not None
        judge = unwrapped(self.discriminator)
        judge.requires_grad_(False)
        loss = generator_loss(judge(fake))
        judge.requires_grad_(True)
        return loss

    def _train_discriminator(self, real: Tensor, fake: Tensor) -> float:
        assert self.discriminator is not None
        judgements = self.discriminator(torch.cat([real, fake]))
        loss = discriminator_loss(*judgements.split([len(real), len(fake)]))
        self.discriminator_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.discriminator_optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(self.recipe.ema, (2 + step) / (11 + step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        for kept, buffer in zip(self.average.buffers(), self.model.buffers(), strict=True):
            kept.copy_(buffer)
