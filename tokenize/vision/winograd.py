"""3x3 convolutions with 2.25 times fewer multiplications, for inference on a CPU (Lavin & Gray 2016, "Fast Algorithms
for Convolutional Neural Networks", F(2x2, 3x3)).

An output tile of 2x2 follows from an input tile of 4x4: both sides are transformed by additions alone, and between the
transforms each of 16 positions is a matrix product over the channels. It rounds about as a direct sum in float32 does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_KERNEL = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]])
_OUTPUT = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, -1.0]])
_OUTPUTS = torch.einsum("ai,bj->abij", _OUTPUT, _OUTPUT).reshape(4, 16)

_WIDTH = 256
"""Narrower layers lose more by the transforms than they gain."""
_SITES = 32 * 32
"""Smaller frames are bound by reading the weights, which are 16/9 larger here."""


class Conv3x3(nn.Conv2d):
    """Convolution 3x3 of stride 1 with padding 1."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.frozen = False
        self._kernels: Tensor | None = None

    def forward(self, frames: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H, W]."""
        height, width = frames.shape[-2:]
        wide = min(self.in_channels, self.out_channels) >= _WIDTH
        large = height * width >= _SITES and height % 2 == width % 2 == 0
        if not (self.frozen and wide and large and frames.device.type == "cpu"):
            return super().forward(frames)
        if self._kernels is None:
            kernels = torch.einsum("ai,ocij,bj->abco", _KERNEL, self.weight, _KERNEL)
            self._kernels = kernels.reshape(16, self.in_channels, self.out_channels).contiguous()
        assert self.bias is not None
        out = frames.new_empty(len(frames), height // 2, 2, width // 2, 2, self.out_channels)
        for frame, target in zip(frames, out, strict=True):
            _convolve(frame, self._kernels, self.bias, target)
        return out.reshape(-1, height, width, self.out_channels).permute(0, 3, 1, 2)


def freeze(module: nn.Module) -> None:
    """Make `module`, whose weights must not change any more, faster on a CPU: large frames go through Winograd's
    algorithm in every `Conv3x3` that gains by it, and channels are kept last in memory. Results differ by rounding."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
        if isinstance(layer, Conv3x3):
            layer.frozen = True


def _convolve(frame: Tensor, kernels: Tensor, bias: Tensor, out: Tensor) -> None:
    """[C, H, W] frame and [16, C, O] kernels into `out`, [H/2, 2, W/2, 2, O]."""
    sites = frame.permute(1, 2, 0)
    height, width, (inputs, outputs) = len(sites), out.shape[2], kernels.shape[1:]
    # As few tiles at once as use the weights well: what is between the transforms should stay in the cache.
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
