"""The loss terms of a tokenizer's training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from reelmill.tokenize.vision.movq import Outputs
from reelmill.tokenize.vision.perceptual import LPIPS


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms. Emu3 names L2, LPIPS, GAN and commitment (section 2.2), without weights.

    `l1`, `l2` of pixels in [-1, 1]; `edges`, L1 of spatial differences; `colour`, L1 of the differences of channels;
    `flicker`, L1 of the change from frame to frame; `lpips`, the perceptual distance (AlexNet), from `lpips_start` on;
    `adversarial`, the hinge loss of a patch discriminator, from `adversarial_start` on (steps); `quantizer`, the
    quantizer's own loss (codebook and commitment, or FSQ's spread).
    """

    l1: float = 1.0
    l2: float = 6.0
    edges: float = 0.25
    colour: float = 0.5
    flicker: float = 0.25
    lpips: float = 0.0
    lpips_start: int = 0
    adversarial: float = 0.0
    adversarial_start: int = 0
    quantizer: float = 0.2


def pixel_terms(outputs: Outputs, pictures: Tensor, clips: Tensor) -> dict[str, Tensor]:
    """l1, l2, edges, colour, flicker and quantizer of a pass over `pictures` and `clips`, each unweighted."""
    decoded = torch.cat([outputs.pictures, outputs.clips.flatten(0, 1)]).float()
    wanted = torch.cat([pictures, clips.flatten(0, 1)])
    return {
        "l1": F.l1_loss(decoded, wanted),
        "l2": F.mse_loss(decoded, wanted),
        "edges": F.l1_loss(decoded.diff(dim=-1), wanted.diff(dim=-1))
        + F.l1_loss(decoded.diff(dim=-2), wanted.diff(dim=-2)),
        # Colour varies far less than brightness: without a term of its own it is learned last.
        "colour": F.l1_loss(_opponent(decoded), _opponent(wanted)),
        "flicker": F.l1_loss(outputs.clips.float().diff(dim=1), clips.diff(dim=1)),
        "quantizer": outputs.quantizer,
    }


def perceptual_term(lpips: LPIPS, outputs: Outputs, pictures: Tensor, clips: Tensor) -> Tensor:
    """Mean LPIPS of the pictures and of the last frame of every clip (its neighbours look the same)."""
    decoded = torch.cat([outputs.pictures, outputs.clips[:, -1]]).float()
    distance: Tensor = lpips(decoded, torch.cat([pictures, clips[:, -1]])).mean()
    return distance


def _opponent(frames: Tensor) -> Tensor:
    """[N, 3, H, W] to [N, 2, H, W]: red minus green, and blue minus the mean of both."""
    red, green, blue = frames.unbind(1)
    return torch.stack([red - green, blue - (red + green) / 2], dim=1)
