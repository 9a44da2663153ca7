"""The loss terms of a tokenizer's training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from reelmill.tokenize.vision.model import Outputs
from reelmill.tokenize.vision.perceptual import LPIPS

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms. Emu3 names L2, LPIPS, GAN and commitment (section 2.2), without weights."""

    l1: float = 1.0
    """L1 of pixels in [-1, 1]."""
    l2: float = 6.0
    """L2 of pixels in [-1, 1]."""
    edges: float = 0.25
    """L1 of spatial differences."""
    colour: float = 0.5
    """L1 of the differences of channels."""
    flicker: float = 0.25
    """L1 of the change from frame to frame."""
    lpips: float = 0.0
    """Perceptual distance (LPIPS, AlexNet)."""
    lpips_start: int = 0
    """Step from which that counts."""
    ssim: float = 0.0
    """1 minus the structural similarity (Wang et al. 2004)."""
    adversarial: float = 0.0
    """Hinge loss of a patch discriminator."""
    adversarial_start: int = 0
    """Step from which that counts."""
    quantizer: float = 0.2
    """The quantizer's own loss: codebook and commitment, or FSQ's spread."""
    entropy: float = 0.0
    """Loss of the choice of codes (index backpropagation only)."""
    semantic: float = 0.0
    """Distance of the decoder's features from those of a SigLIP model (`semantic.py`)."""
    semantic_model: str = ""
    """Folder of that model."""


def pixel_terms(outputs: Outputs, pictures: Tensor, clips: Tensor) -> dict[str, Tensor]:
    """l1, l2, edges, colour, flicker and quantizer of a pass over `pictures` and `clips`, each unweighted."""
    decoded = torch.cat([outputs.pictures, outputs.clips.flatten(0, 1)]).float()
    wanted = torch.cat([pictures, clips.flatten(0, 1)])
    return {
        "l1": F.l1_loss(decoded, wanted),
        "l2": F.mse_loss(decoded, wanted),
        "edges": F.l1_loss(decoded.diff(dim=-1), wanted.diff(dim=-1))
        + F.l1_loss(decoded.diff(dim=-2), wanted.diff(dim=-2)),
        # Color varies far less than brightness: without a term of its own it is learned last.
        "colour": F.l1_loss(_opponent(decoded), _opponent(wanted)),
        "flicker": _change(outputs.clips.float(), clips),
        "quantizer": outputs.quantizer,
    }


def _change(decoded: Tensor, wanted: Tensor) -> Tensor:
    """L1 of the change from frame to frame of [B, T, ...]; 0 where there are no two frames."""
    if not len(wanted) or wanted.shape[1] < 2:
        return wanted.new_zeros(())
    return F.l1_loss(decoded.diff(dim=1), wanted.diff(dim=1))


def similarity_term(outputs: Outputs, pictures: Tensor, clips: Tensor) -> Tensor:
    """1 minus the mean structural similarity of the pictures and of the last frame of every clip."""
    decoded = torch.cat([outputs.pictures, outputs.clips[:, -1]]).float()
    return 1 - similarity(decoded, torch.cat([pictures, clips[:, -1]]))


def similarity(one: Tensor, other: Tensor) -> Tensor:
    """Structural similarity of [N, C, H, W] in [-1, 1], sides of at least 11, the mean over all: a scalar.

    Gaussian windows of 11 x 11, sigma 1.5, that lie wholly in the picture, channels apart, as `eval reconstruction`
    measures it.
    """
    one, other = (one + 1) / 2, (other + 1) / 2  # the measure depends on where black is
    stacked = torch.stack([one, other, one * one, other * other, one * other])
    down, across = (_gaussian(side, one) for side in one.shape[-2:])
    mean_one, mean_other, square_one, square_other, product = down @ stacked @ across.T
    variances = square_one - mean_one**2 + square_other - mean_other**2
    covariance = product - mean_one * mean_other
    luminance = (2 * mean_one * mean_other + _C1) / (mean_one**2 + mean_other**2 + _C1)
    score: Tensor = (luminance * (2 * covariance + _C2) / (variances + _C2)).mean()
    return score


def _gaussian(side: int, like: Tensor) -> Tensor:
    """[side - 10, side]: each row a window's weights. As a product it is several times faster than a convolution."""
    sites = torch.arange(side, device=like.device, dtype=like.dtype)
    distance = sites - sites[: side - _WINDOW + 1, None] - _WINDOW // 2
    weights = torch.exp(-distance.square() / (2 * _SIGMA**2)) * (distance.abs() <= _WINDOW // 2)
    return weights / weights.sum(1, keepdim=True)


def perceptual_term(lpips: LPIPS, outputs: Outputs, pictures: Tensor, clips: Tensor) -> Tensor:
    """Mean LPIPS of the pictures and of the last frame of every clip (its neighbors look the same)."""
    decoded = torch.cat([outputs.pictures, outputs.clips[:, -1]]).float()
    distance: Tensor = lpips(decoded, torch.cat([pictures, clips[:, -1]])).mean()
    return distance


def _opponent(frames: Tensor) -> Tensor:
    """[N, 3, H, W] to [N, 2, H, W]: red minus green, and blue minus the mean of both."""
    red, green, blue = frames.unbind(1)
    return torch.stack([red - green, blue - (red + green) / 2], dim=1)
