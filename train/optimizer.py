"""AdamW and the learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn


@dataclass(kw_only=True)
class OptimizerConfig:
    """AdamW with a linear warm-up and a decay to `final_lr`. Norms and biases have no weight decay."""

    lr: float = 5e-5
    """Learning rate after the warm-up."""
    final_lr: float = 0.0
    """Learning rate of the last step."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """How the rate falls after the warm-up."""
    warmup_steps: int = 2_000
    """Steps over which the rate grows from 0."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.95
    """Decay of the mean of squared gradients."""
    eps: float = 1e-8
    """Added to the root of the mean of squares."""
    weight_decay: float = 0.1
    """Decoupled weight decay (AdamW); none for norms and biases."""
    grad_clip: float = 1.0
    """Largest global norm of the gradients."""

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of `step` (from 0) in a run of `steps`."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        left = 0.5 * (1 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1 - done
        return self.final_lr + (self.lr - self.final_lr) * left


def make_optimizer(model: nn.Module, config: OptimizerConfig, apart: str = "") -> torch.optim.AdamW:
    """AdamW over the model's parameters that learn. The learning rate is set at each step.

    Those whose names begin with `apart` form groups of their own; the key `is_apart` of a group says so.
    """
    learning = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = []
    for is_apart in (False, True) if apart else (False,):
        own = [parameter for name, parameter in learning if not apart or name.startswith(apart) == is_apart]
        groups += [
            {"params": [parameter for parameter in own if parameter.ndim > 1], "is_apart": is_apart},
            {"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0, "is_apart": is_apart},
        ]
    return torch.optim.AdamW(
        groups,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )
