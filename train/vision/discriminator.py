"""The adversary of a tokenizer's training: a patch discriminator with hinge losses (VQGAN, Esser et al. 2021)."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PatchDiscriminator(nn.Module):
    """Judges every patch of a frame: conv4x4 of stride 2, `layers` times, widths doubling up to 8 x `channels`.

    GroupNorm instead of the usual BatchNorm, so that a judgment does not depend on the rest of the batch.
    """

    def __init__(self, channels: int = 64, layers: int = 2) -> None:
        super().__init__()
        widths = [channels * min(2**i, 8) for i in range(layers + 1)]
        parts: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i, (inputs, outputs) in enumerate(pairwise(widths)):
            stride = 2 if i < layers - 1 else 1
            parts += [
                nn.Conv2d(inputs, outputs, 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(min(32, outputs), outputs),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*parts, nn.Conv2d(widths[-1], 1, 4, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] to [N, 1, h, w]: positive for real."""
        return cast(Tensor, self.layers(frames))


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of the discriminator's judgments of originals and of reconstructions."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def generator_loss(fake: Tensor) -> Tensor:
    """What the tokenizer wants: its reconstructions judged real."""
    return -torch.mean(fake)
