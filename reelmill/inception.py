"""Inception v3 behind published FID numbers: TensorFlow's classifier of 2015-12-05, not torchvision's.

Average pooling excludes the padding, the last block uses max pooling, and pictures are resized to 299 x 299 as in
TensorFlow 1.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelmill import weights
from reelmill.errors import WeightsError

CARD = "inception-fid"
SIDE = 299
WIDTH = 2048
"""Features of a picture."""

Frames = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float64]


class _Convolution(nn.Module):
    """Convolution, batch normalization with fixed statistics, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, padded: bool = True
    ) -> None:
        super().__init__()
        self.stride = stride
        self.padding = (kernel[0] // 2, kernel[1] // 2) if padded else (0, 0)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *kernel))
        self.beta = nn.Parameter(torch.empty(outputs))
        self.mean = nn.Parameter(torch.empty(outputs))
        self.variance = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, stride=self.stride, padding=self.padding)
        return F.relu(F.batch_norm(x, self.mean, self.variance, bias=self.beta, eps=1e-3))


class _Branches(nn.Module):
    """The concatenated channels of several branches of one input."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def _chain(inputs: int, *layers: tuple[int, int, int]) -> nn.Sequential:
    """A sequence of padded convolutions, each (outputs, kernel height, kernel width)."""
    modules = []
    for outputs, *kernel in layers:
        modules.append(_Convolution(inputs, outputs, (kernel[0], kernel[1])))
        inputs = outputs
    return nn.Sequential(*modules)


def _average() -> nn.Module:
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


def _block_a(inputs: int, pooled: int) -> nn.Module:
    return _Branches(
        _chain(inputs, (64, 1, 1)),
        _chain(inputs, (48, 1, 1), (64, 5, 5)),
        _chain(inputs, (64, 1, 1), (96, 3, 3), (96, 3, 3)),
        nn.Sequential(_average(), _chain(inputs, (pooled, 1, 1))),
    )


def _block_b() -> nn.Module:
    return _Branches(
        _Convolution(288, 384, (3, 3), stride=2, padded=False),
        nn.Sequential(_chain(288, (64, 1, 1), (96, 3, 3)), _Convolution(96, 96, (3, 3), stride=2, padded=False)),
        nn.MaxPool2d(3, stride=2),
    )


def _block_c(width: int) -> nn.Module:
    return _Branches(
        _chain(768, (192, 1, 1)),
        _chain(768, (width, 1, 1), (width, 1, 7), (192, 7, 1)),
        _chain(768, (width, 1, 1), (width, 7, 1), (width, 1, 7), (width, 7, 1), (192, 1, 7)),
        nn.Sequential(_average(), _chain(768, (192, 1, 1))),
    )


def _block_d() -> nn.Module:
    return _Branches(
        nn.Sequential(_chain(768, (192, 1, 1)), _Convolution(192, 320, (3, 3), stride=2, padded=False)),
        nn.Sequential(
            _chain(768, (192, 1, 1), (192, 1, 7), (192, 7, 1)),
            _Convolution(192, 192, (3, 3), stride=2, padded=False),
        ),
        nn.MaxPool2d(3, stride=2),
    )


def _block_e(inputs: int, pool: nn.Module) -> nn.Module:
    def split() -> nn.Module:
        return _Branches(_chain(384, (384, 1, 3)), _chain(384, (384, 3, 1)))

    return _Branches(
        _chain(inputs, (320, 1, 1)),
        nn.Sequential(_chain(inputs, (384, 1, 1)), split()),
        nn.Sequential(_chain(inputs, (448, 1, 1), (384, 3, 3)), split()),
        nn.Sequential(pool, _chain(inputs, (192, 1, 1))),
    )


class Inception(nn.Module):
    """Pictures to the 2,048 features before the classifier. `load_inception` loads it with the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _Convolution(3, 32, (3, 3), stride=2, padded=False),
            _Convolution(32, 32, (3, 3), padded=False),
            _Convolution(32, 64, (3, 3)),
            nn.MaxPool2d(3, stride=2),
            _Convolution(64, 80, (1, 1)),
            _Convolution(80, 192, (3, 3), padded=False),
            nn.MaxPool2d(3, stride=2),
            _block_a(192, 32),
            _block_a(256, 64),
            _block_a(288, 64),
            _block_b(),
            _block_c(128),
            _block_c(160),
            _block_c(160),
            _block_c(192),
            _block_d(),
            _block_e(1280, _average()),
            _block_e(2048, nn.MaxPool2d(3, stride=1, padding=1)),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Features [N, 2048] of float frames [N, 3, H, W] in [0, 255]."""
        x = (_resize(frames) - 128) / 128
        features: Tensor = self.layers(x).mean(dim=(2, 3))
        return features


def load_inception() -> Inception:
    """The network with the weights `inception-fid`, frozen, in evaluation mode.

    Raises WeightsError if they are missing or do not fit.
    """
    file = weights.path(CARD)
    model = Inception()
    parameters = list(model.parameters())
    arrays = list(_arrays(file))
    if [array.size for array in arrays] != [parameter.numel() for parameter in parameters]:
        raise WeightsError(f"{file} does not fit Inception: {len(arrays)} arrays for {len(parameters)} parameters")
    with torch.no_grad():
        for parameter, array in zip(parameters, arrays, strict=True):
            parameter.copy_(torch.from_numpy(array.copy()).view(parameter.shape))
    return model.requires_grad_(False).eval()


def inception_features(model: Inception, frames: Frames) -> Features:
    """Features [T, 2048] of uint8 RGB frames [T, H, W, 3]."""
    pictures = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        features: Features = model(pictures).double().numpy()
    return features


def _arrays(file: Path) -> Iterator[npt.NDArray[np.float32]]:
    """The tensors of the file in the order of the layers. The program in the file is not read."""
    with zipfile.ZipFile(file) as archive:
        prefix = "out_jit_module/data/"
        numbers = [int(name.removeprefix(prefix)) for name in archive.namelist() if name.startswith(prefix)]
        for number in sorted(numbers):
            yield np.frombuffer(archive.read(f"{prefix}{number}"), dtype="<f4")


def _resize(frames: Tensor) -> Tensor:
    """[N, 3, H, W] to [N, 3, 299, 299] as in TensorFlow 1: bilinear, aligned to the top left corners of pixels."""
    down, across = (_interpolation(side).to(frames) for side in frames.shape[-2:])
    return down @ frames @ across.T


def _interpolation(side: int) -> Tensor:
    """[299, side]: the weights of the two neighbors in each output."""
    positions = torch.arange(SIDE, dtype=torch.float64) * side / SIDE
    low = positions.floor().long()
    share = positions - low
    matrix = torch.zeros(SIDE, side, dtype=torch.float64)
    rows = torch.arange(SIDE)
    matrix[rows, low] = 1 - share
    matrix[rows, (low + 1).clamp(max=side - 1)] += share
    return matrix
