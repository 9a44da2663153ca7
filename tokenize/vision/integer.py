"""Convolutions in whole numbers of 8 bits, for inference: on a CPU with VNNI four times as fast as in float32.

A layer's weights are rounded to 255 levels for each of its outputs, its input to 256 levels between the extremes of
each frame, when it is seen (Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference",
sections 3.1 and 3.2). Products are summed in 32 bits, exactly, whatever the order. Where a processor has no such
instructions, and on GPUs, the same whole numbers go through the convolution of float32, so that a code depends on the
machine by rounding alone.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelmill.tokenize.vision.layers import CausalConv3d

_Module = TypeVar("_Module", bound=nn.Module)

_STEPS = 254
"""From the lowest value of a frame to its highest: one less than a byte has, since the zero is rounded too."""
_LEAST = 1e-30
"""Of a frame of zeros."""


def integer_copy(model: _Module, encoder: str = "encoder") -> _Module:
    """A copy of `model` for inference, whose submodule `encoder` convolves frames by 3x3 kernels in whole numbers.
    Temporal convolutions stay in float32; on a CPU they take the past frames as channels (`CausalConv3d.flat`)."""
    made = copy.deepcopy(model)
    _replace(made.get_submodule(encoder))
    for layer in made.modules():
        if isinstance(layer, CausalConv3d):
            layer.flat = True
    return made


def _replace(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3):
            setattr(module, name, IntegerConv(child))
        else:
            _replace(child)


class IntegerConv(nn.Module):
    """`convolution` in whole numbers, with its bias in float32."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        self.scales = weight.abs().amax((1, 2, 3)).clamp(min=_LEAST) / 127
        self.levels = (weight / self.scales[:, None, None, None]).round().to(torch.int8)
        self.bias = torch.zeros_like(self.scales) if convolution.bias is None else convolution.bias.detach()
        self.stride = cast(tuple[int, int], convolution.stride)
        self.padding = cast(tuple[int, int], convolution.padding)
        self._packed: Tensor | None = None

    def forward(self, frames: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H', W'], both float32; a frame does not depend on its neighbors."""
        if frames.device.type != "cpu" or not has_integer_kernels():
            return self._in_floats(frames)
        made = [self._in_bytes(frame) for frame in torch.split(frames, 1)]
        return made[0] if len(made) == 1 else torch.cat(made)

    def _in_floats(self, frames: Tensor) -> Tensor:
        extent = (1, 2, 3)
        low, high = frames.amin(extent, keepdim=True).clamp(max=0), frames.amax(extent, keepdim=True).clamp(min=0)
        # In float64, as Python computes below.
        scale = ((high.double() - low.double()) / _STEPS).clamp(min=_LEAST)
        zero = ((-low / scale).round() - 128).float()
        levels = torch.addcmul(zero, frames, (1 / scale).float()).round()
        sums = F.conv2d(levels - zero, self.levels.to(frames), None, self.stride, self.padding)
        scales, bias = (values.to(frames)[:, None, None] for values in (self.scales, self.bias))
        return sums * (scale.float() * scales) + bias

    def _in_bytes(self, frame: Tensor) -> Tensor:
        low, high = min(float(frame.amin()), 0.0), max(float(frame.amax()), 0.0)
        scale = max((high - low) / _STEPS, _LEAST)
        zero = round(-low / scale) - 128
        levels = torch.add(torch.tensor(float(zero)), frame, alpha=1 / scale).round_()
        # oneDNN takes bytes from 0 to 255. By way of int8: torch has vector code for that alone.
        signed = levels.contiguous(memory_format=torch.channels_last).to(torch.int8)
        whole = signed.view(torch.uint8).bitwise_xor_(128)
        if self._packed is None:
            self._packed = _pack(self.levels, self.scales, self.stride, self.padding, frame.shape)
        return _convolve(whole, scale, zero + 128, self._packed, self.scales, self.bias, self.stride, self.padding)


def _pack(
    levels: Tensor, scales: Tensor, stride: tuple[int, int], padding: tuple[int, int], shape: torch.Size
) -> Tensor:
    packed = torch.ops.onednn.qconv_prepack(levels, scales, 1.0, 0, stride, padding, (1, 1), 1, shape)
    return cast(Tensor, packed)


def _convolve(
    frames: Tensor,
    scale: float,
    zero: int,
    packed: Tensor,
    scales: Tensor,
    bias: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """oneDNN's convolution of uint8 frames, of which `zero` means 0, by packed int8 weights into float32."""
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    weights = (packed, scales, zeros, bias, stride, padding, (1, 1), 1)
    made = torch.ops.onednn.qconv2d_pointwise(frames, scale, zero, *weights, 1.0, 0, torch.float32, "none", [], "")
    return cast(Tensor, made)


@cache
def has_integer_kernels() -> bool:
    """Whether this CPU sums products of 8-bit numbers exactly. Instructions older than VNNI add pairs of them in 16
    bits and cut off what is larger: the largest products tell."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has_onednn or not hasattr(torch.ops.onednn, "qconv2d_pointwise"):
        return False
    inputs = 64
    frames = torch.full((1, inputs, 8, 8), 255, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    levels, one = torch.full((16, inputs, 3, 3), 127, dtype=torch.int8), torch.ones(16)
    packed = _pack(levels, one, (1, 1), (1, 1), frames.shape)
    sums = _convolve(frames, 1.0, 0, packed, one, torch.zeros(16), (1, 1), (1, 1))
    return bool((sums[:, :, 1:-1, 1:-1] == 255 * 127 * 9 * inputs).all())
