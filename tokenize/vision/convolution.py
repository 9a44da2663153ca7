"""3x3 convolutions for inference on a CPU, faster than torch's where layers are wide.

Large frames: Winograd's algorithm (Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", F(2x2,
3x3)), with 2.25 times fewer multiplications. An output tile of 2x2 follows from an input tile of 4x4: both are
transformed by additions alone; between the transforms each of 16 positions is a matrix product over the channels. It
rounds about as a direct sum in float32 does.

Small frames in very wide layers: one matrix product on the weights as stored. torch's own convolution rearranges the
weights at every call, and there they are larger than the frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_KERNEL = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]])
_OUTPUT = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, -1.0]])
_OUTPUTS = torch.einsum("ai,bj->abij", _OUTPUT, _OUTPUT).reshape(4, 16)

_WIDTH = 256
"""Narrower layers lose more to the transforms than they gain."""
_SITES = 32 * 32
"""Smaller frames, and those of fewer sites than twice the width, are bound by reading the weights, which are 16/9
larger for Winograd's algorithm; it also keeps them in memory beside the others."""
_DEEP = 1024
"""From this width on, a plain matrix product is faster for such frames."""


class Conv3x3(nn.Conv2d):
    """Convolution 3x3 of stride 1 with padding 1."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.frozen = False
        self._kernels: Tensor | None = None

    def forward(self, frames: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H, W]."""
        height, width = frames.shape[-2:]
        narrowest = min(self.in_channels, self.out_channels)
        if not self.frozen or narrowest < _WIDTH or frames.device.type != "cpu":
            return super().forward(frames)
        is_small = height * width < max(_SITES, 2 * narrowest)
        if not is_small and height % 2 == width % 2 == 0:
            return self._by_tiles(frames)
        if is_small and narrowest >= _DEEP:
            return torch.cat([self._by_columns(frame) for frame in torch.split(frames, 1)])
        return super().forward(frames)

    def _by_tiles(self, frames: Tensor) -> Tensor:
        if self._kernels is None:
            self._kernels = _transformed(self.weight)
        assert self.bias is not None
        count, _, height, width = frames.shape
        out = frames.new_empty(count, height // 2, 2, width // 2, 2, self.out_channels)
        for frame, target in zip(frames, out, strict=True):
            _convolve(frame, self._kernels, self.bias, target)
        return out.reshape(count, height, width, self.out_channels).permute(0, 3, 1, 2)

    def _by_columns(self, frames: Tensor) -> Tensor:
        padded = F.pad(frames.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        windows = padded.unfold(1, 3, 1).unfold(2, 3, 1).permute(0, 1, 2, 4, 5, 3)  # [N, H, W, 3, 3, inputs]
        columns = windows.reshape(-1, 9 * self.in_channels)
        weight = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1)  # a view: channels lie last
        sums = F.linear(columns, weight, self.bias)
        return sums.reshape(*windows.shape[:3], -1).permute(0, 3, 1, 2)


def freeze(module: nn.Module) -> None:
    """Make `module`, whose weights must not change any more, faster on a CPU: every `Conv3x3` goes the fastest way, and
    channels are kept last in memory. Results differ by rounding."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
        if isinstance(layer, Conv3x3):
            layer.frozen = True


def _transformed(weight: Tensor) -> Tensor:
    """[O, C, 3, 3] kernels to [16, C, O]; a row at a time, which needs little memory besides."""
    outputs, inputs = weight.shape[:2]
    kernels = weight.new_empty(4, 4, inputs, outputs)
    for row, factors in zip(kernels, _KERNEL, strict=True):
        columns = torch.einsum("i,ocij->jco", factors, weight)
        torch.mm(_KERNEL, columns.reshape(3, -1), out=row.view(4, -1))
    return kernels.flatten(0, 1)


def _convolve(frame: Tensor, kernels: Tensor, bias: Tensor, out: Tensor) -> None:
    """[C, H, W] frame and [16, C, O] kernels into `out`, [H/2, 2, W/2, 2, O]."""
    sites = frame.permute(1, 2, 0)
    height, width, (inputs, outputs) = len(sites), out.shape[2], kernels.shape[1:]
    # Just enough tiles at once to use the weights well: the intermediate results should stay in the cache.
    step = max(1, inputs // 2 // width)
    for top in range(0, height // 2, step):
        target = out[top : top + step]
        rows, tiles = len(target), len(target) * width
        # The rows of these tiles with one more on each side; zeros outside the frame.
        strip = sites.new_zeros(2 * rows + 2, 2 * width + 2, inputs)
        first, last = max(0, 2 * top - 1), min(height, 2 * (top + rows) + 1)
        strip[first - 2 * top + 1 : last - 2 * top + 1, 1:-1] = sites[first:last]
        by_row = strip.new_empty(4, rows, *strip.shape[1:])
        _transform([strip[i : i + 2 * rows - 1 : 2] for i in range(4)], by_row)
        patches = strip.new_empty(4, 4, rows, width, inputs)
        _transform([by_row[:, :, i : i + 2 * width - 1 : 2] for i in range(4)], patches.transpose(0, 1))
        products = torch.bmm(patches.reshape(16, tiles, inputs), kernels)
        sums = torch.mm(_OUTPUTS, products.reshape(16, tiles * outputs)).reshape(2, 2, rows, width, outputs)
        torch.add(sums, bias, out=target.permute(1, 3, 0, 2, 4))


def _transform(neighbours: list[Tensor], out: Tensor) -> None:
    first, second, third, fourth = neighbours
    torch.sub(first, third, out=out[0])
    torch.add(second, third, out=out[1])
    torch.sub(third, second, out=out[2])
    torch.sub(second, fourth, out=out[3])
