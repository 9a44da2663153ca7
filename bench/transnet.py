"""TransNet V2 (Souček & Lokoč, "TransNet V2: An effective deep network architecture for fast shot transition
detection", 2020), as far as its published weights need it. `bench/cuts.py` compares the cut finders with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

FILTERS, WINDOW, STEP, LOOK = 16, 100, 50, 101
SIZE = (48, 27)
"""Columns and rows of the frames that it sees."""


class _Separable(nn.Module):
    def __init__(self, inputs: int, filters: int, dilation: int) -> None:
        super().__init__()
        space = nn.Conv3d(inputs, 2 * filters, (1, 3, 3), padding=(0, 1, 1), bias=False)
        time = nn.Conv3d(
            2 * filters, filters, (3, 1, 1), dilation=(dilation, 1, 1), padding=(dilation, 0, 0), bias=False
        )
        self.layers = nn.Sequential(space, time)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class _Dilated(nn.Module):
    def __init__(self, inputs: int, filters: int) -> None:
        super().__init__()
        for dilation in (1, 2, 4, 8):
            setattr(self, f"Conv3D_{dilation}", _Separable(inputs, filters, dilation))
        self.bn = nn.BatchNorm3d(4 * filters, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(torch.cat([getattr(self, f"Conv3D_{dilation}")(x) for dilation in (1, 2, 4, 8)], dim=1))


class _Stack(nn.Module):
    def __init__(self, inputs: int, filters: int) -> None:
        super().__init__()
        self.DDCNN = nn.ModuleList([_Dilated(inputs, filters), _Dilated(4 * filters, filters)])

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.DDCNN[0](x))
        return F.avg_pool3d(F.relu(self.DDCNN[1](first)) + first, (1, 2, 2))


def _neighbours(features: Tensor) -> Tensor:
    """How like each frame is to the 50 before and after it: [T, n] of unit length become [T, LOOK]."""
    alike = F.pad(features @ features.T, (LOOK // 2, LOOK // 2))
    places = torch.arange(LOOK) + torch.arange(len(features))[:, None]
    return alike.gather(1, places)


class _Similarity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(4 * FILTERS * 7, 128)
        self.fc = nn.Linear(LOOK, 128)

    def forward(self, blocks: list[Tensor]) -> Tensor:
        means = torch.cat([block.mean(dim=(3, 4))[0].T for block in blocks], dim=1)
        return F.relu(self.fc(_neighbours(F.normalize(self.projection(means), dim=1))))


class _Histograms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(LOOK, 128)

    def forward(self, frames: Tensor) -> Tensor:
        red, green, blue = (frames.long() >> 5).flatten(1, 2).unbind(-1)
        bins = (red << 6) + (green << 3) + blue
        counts = torch.zeros(len(frames), 512).scatter_add_(1, bins, torch.ones(bins.shape))
        return F.relu(self.fc(_neighbours(F.normalize(counts, dim=1))))


class TransNet(nn.Module):
    """Frames uint8 [T, 27, 48, 3] RGB to the probability of a cut after each [T]."""

    def __init__(self) -> None:
        super().__init__()
        widths = [(3, FILTERS), (4 * FILTERS, 2 * FILTERS), (8 * FILTERS, 4 * FILTERS)]
        self.SDDCNN = nn.ModuleList([_Stack(*width) for width in widths])
        self.frame_sim_layer, self.color_hist_layer = _Similarity(), _Histograms()
        self.fc1 = nn.Linear(16 * FILTERS * 18 + 256, 1024)
        self.cls_layer1, self.cls_layer2 = nn.Linear(1024, 1), nn.Linear(1024, 1)

    def forward(self, frames: Tensor) -> Tensor:
        x = frames.permute(3, 0, 1, 2)[None].float() / 255
        blocks = []
        for stack in self.SDDCNN:
            x = stack(x)
            blocks.append(x)
        flat = x[0].permute(1, 2, 3, 0).flatten(1)
        seen = torch.cat([self.color_hist_layer(frames), self.frame_sim_layer(blocks), flat], dim=1)
        return torch.sigmoid(self.cls_layer1(F.relu(self.fc1(seen))))[:, 0]


def load(path: Path) -> TransNet:
    model = TransNet()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


@torch.inference_mode()
def cuts(model: TransNet, frames: np.ndarray, threshold: float = 0.5) -> list[int]:
    """The first frames of scenes: a transition is a row of frames above the threshold, and cut in its middle.

    As its authors run it: windows of 100 frames, of which the middle 50 count, the ends repeated.
    """
    count = len(frames)
    padded = np.concatenate([frames[:1]] * 25 + [frames] + [frames[-1:]] * (25 + STEP - 1 - (count - 1) % STEP))
    windows = (torch.from_numpy(padded[at : at + WINDOW]) for at in range(0, len(padded) - WINDOW + 1, STEP))
    chances = torch.cat([model(window)[25:75] for window in windows])[:count].numpy()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chances > threshold, [0]]).astype(int)))
    return [int(first + last - 1) // 2 + 1 for first, last in zip(edges[::2], edges[1::2], strict=True) if last < count]
