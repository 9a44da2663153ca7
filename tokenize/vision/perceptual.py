"""LPIPS, the learned perceptual distance of two pictures (Zhang et al. 2018), version 0.1 on AlexNet.

Both pictures go through AlexNet's five convolutions. After each, features are scaled to unit length at every position;
the squared differences are weighted by channel with learned weights, summed, and averaged over the picture. The
distance is the sum over the five layers.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from reelmill import weights
from reelmill.errors import WeightsError

CARD = "lpips-alex"
SMALLEST = 31
"""Shortest side in pixels: below it nothing is left after the two poolings."""

_EPSILON = 1e-10


class LPIPS(nn.Module):
    """The distance of pictures; `load_lpips` gives it with the published weights."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1), persistent=False)
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(3, 64, 11, stride=4, padding=2),
                nn.Conv2d(64, 192, 5, padding=2),
                nn.Conv2d(192, 384, 3, padding=1),
                nn.Conv2d(384, 256, 3, padding=1),
                nn.Conv2d(256, 256, 3, padding=1),
            ]
        )
        self.heads = nn.ModuleList([nn.Conv2d(channels, 1, 1, bias=False) for channels in (64, 192, 384, 256, 256)])

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Distances [N] of float pictures [N, 3, H, W] in [-1, 1], sides of at least 31; 0 for equal ones."""
        if one.shape != other.shape or one.ndim != 4 or one.shape[1] != 3 or min(one.shape[2:]) < SMALLEST:
            raise ValueError(
                f"LPIPS compares [N, 3, H, W] of one shape with sides of at least {SMALLEST}, "
                f"not {list(one.shape)} with {list(other.shape)}"
            )
        distance = torch.zeros(len(one), device=one.device)
        for head, ours, theirs in zip(self.heads, self._features(one), self._features(other), strict=True):
            difference = (_unit(ours) - _unit(theirs)) ** 2
            distance = distance + head(difference).mean(dim=(1, 2, 3))
        return distance

    def _features(self, pictures: Tensor) -> Iterator[Tensor]:
        features = (pictures - self.mean) / self.std
        for layer, convolution in enumerate(self.convolutions):
            if layer in {1, 2}:
                features = nn.functional.max_pool2d(features, 3, stride=2)
            features = nn.functional.relu(convolution(features))
            yield features


def load_lpips() -> LPIPS:
    """LPIPS with the weights of the registry's card `lpips-alex`, frozen, in evaluation mode.

    Raises WeightsError when they are missing or do not fill the network.
    """
    file = weights.path(CARD)
    with file.open("rb") as stream:
        tree = _NumpyUnpickler(stream).load()
    model = LPIPS()
    try:
        model.load_state_dict(_state_dict(tree))
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"{file} does not fill LPIPS: {error}") from error
    return model.requires_grad_(False).eval()


def _state_dict(tree: dict[str, dict[str, Any]]) -> dict[str, Tensor]:
    """The file's tree of arrays (kernels [H, W, in, out], as Flax has them) under our names, as torch has them."""
    state = {}
    for layer in range(5):
        convolution = tree["AlexNet_0"][f"Conv_{layer}"]
        state[f"convolutions.{layer}.weight"] = _kernel(convolution)
        state[f"convolutions.{layer}.bias"] = torch.from_numpy(convolution["bias"].copy())
        state[f"heads.{layer}.weight"] = _kernel(tree[f"NetLinLayer_{layer}"]["Conv_0"])
    return state


def _kernel(convolution: dict[str, np.ndarray]) -> Tensor:
    return torch.from_numpy(convolution["kernel"].transpose(3, 2, 0, 1).copy())


def _unit(features: Tensor) -> Tensor:
    # vector_norm, not sqrt of a sum: where all channels are 0 its gradient is 0 instead of NaN.
    unit: Tensor = features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + _EPSILON)
    return unit


def _array(_cls: type, shape: tuple[int, ...], _typecode: bytes) -> np.ndarray:
    """An empty array, which the pickle then fills: what NumPy's `_reconstruct` does."""
    return np.empty(shape, np.int8)


class _NumpyUnpickler(pickle.Unpickler):
    """Reads dicts of NumPy arrays: the pickle may name what stands below and nothing else."""

    allowed: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _array,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise WeightsError(f"the weights ask for {module}.{name}, which nothing but code needs")
        return self.allowed[module, name]
