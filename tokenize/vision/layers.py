"""Layers of the MoVQ video tokenizer (Zheng et al. 2022; Emu3, Wang et al. 2024, section 2.2).

Frames are [N, C, H, W]; clips are [B, C, T, H, W]. Parameter names are those of Emu3's published checkpoint.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelmill.tokenize.vision.convolution import Conv3x3

_EPS = 1e-6

Memory = dict[nn.Module, Tensor]
"""The last 2 frames seen by every causal convolution: streaming hands them from one chunk to the next."""


class PlainNorm(nn.GroupNorm):
    """GroupNorm, as the encoder uses it; it ignores the quantized vectors."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(groups, channels, eps=_EPS)

    def forward(self, frames: Tensor, quantized: Tensor | None = None) -> Tensor:
        """GroupNorm over each frame."""
        return super().forward(frames)


class SpatialNorm(nn.Module):
    """MoVQ's norm: GroupNorm(x) * scale(zq) + shift(zq), zq resized to x by nearest neighbor.

    The 1x1 convolutions run before the resize: they commute with it, and there are up to 64 times fewer sites there.
    """

    def __init__(self, channels: int, groups: int, quantized_channels: int) -> None:
        super().__init__()
        self.norm_layer = nn.GroupNorm(groups, channels, eps=_EPS)
        self.conv_y = nn.Conv2d(quantized_channels, channels, 1)
        self.conv_b = nn.Conv2d(quantized_channels, channels, 1)
        # Start near a plain GroupNorm: torch's own initialization would scale every branch down to almost nothing.
        nn.init.ones_(cast(Tensor, self.conv_y.bias))
        nn.init.zeros_(cast(Tensor, self.conv_b.bias))

    def forward(self, frames: Tensor, quantized: Tensor | None) -> Tensor:
        """[N, C, H, W] frames and [N, D, h, w] quantized vectors to [N, C, H, W]."""
        assert quantized is not None
        size = frames.shape[-2:]
        scale = F.interpolate(self.conv_y(quantized), size=size, mode="nearest")
        shift = F.interpolate(self.conv_b(quantized), size=size, mode="nearest")
        return torch.addcmul(shift, cast(Tensor, self.norm_layer(frames)), scale)


def make_norm(channels: int, groups: int, quantized_channels: int | None) -> PlainNorm | SpatialNorm:
    """The encoder's norm when `quantized_channels` is None, else the decoder's."""
    if quantized_channels is None:
        return PlainNorm(channels, groups)
    return SpatialNorm(channels, groups, quantized_channels)


class ResBlock(nn.Module):
    """norm, swish, conv3x3, twice, plus the input (through a 1x1 convolution where the width changes)."""

    def __init__(self, inputs: int, outputs: int, groups: int, quantized_channels: int | None = None) -> None:
        super().__init__()
        self.norm1 = make_norm(inputs, groups, quantized_channels)
        self.conv1 = Conv3x3(inputs, outputs)
        self.norm2 = make_norm(outputs, groups, quantized_channels)
        self.conv2 = Conv3x3(outputs, outputs)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, frames: Tensor, quantized: Tensor | None = None) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H, W]."""
        h = self.conv1(F.silu(self.norm1(frames, quantized), inplace=True))
        h = self.conv2(F.silu(self.norm2(h, quantized), inplace=True))
        return cast(Tensor, h.add_(self.nin_shortcut(frames) if hasattr(self, "nin_shortcut") else frames))


class Attention(nn.Module):
    """Single-head self-attention over the sites of a frame, plus the input."""

    def __init__(self, channels: int, groups: int, quantized_channels: int | None = None) -> None:
        super().__init__()
        self.norm = make_norm(channels, groups, quantized_channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, frames: Tensor, quantized: Tensor | None = None) -> Tensor:
        """[N, C, H, W] to the same shape."""
        normed = self.norm(frames, quantized)
        q, k, v = (layer(normed).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(frames.shape)
        return cast(Tensor, frames + self.proj_out(attended))


class Downsample(nn.Module):
    """Halve height and width: one row and column of zeros at the bottom and right, then conv3x3 of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, frames: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, H/2, W/2]."""
        return cast(Tensor, self.conv(F.pad(frames, (0, 1, 0, 1))))


class Upsample(nn.Module):
    """Double height and width by nearest neighbor, then conv3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv3x3(channels, channels)

    def forward(self, frames: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, 2H, 2W]."""
        return cast(Tensor, self.conv(F.interpolate(frames, scale_factor=2.0, mode="nearest")))


class CausalConv3d(nn.Module):
    """3-D convolution that never looks ahead: time is padded with 2 zeros before and none after, whatever the kernel.

    Space is padded by kernel - stride zeros, the larger half before. `flat`: whether inference on a CPU goes by 2-D
    convolutions.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1)
    ) -> None:
        super().__init__()
        rows, columns = kernel[1] - stride[1], kernel[2] - stride[2]
        self.padding = (columns - columns // 2, columns // 2, rows - rows // 2, rows // 2)
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride)
        self.flat = False
        self._pass_through()

    def forward(self, clips: Tensor, memory: Memory | None = None) -> Tensor:
        """[B, inputs, T, H, W] to [B, outputs, T', H, W] with T' = (T + 2 - kernel) // stride + 1.

        With a `memory` (T a multiple of the stride) the clip goes on where the last one ended: chunk by chunk gives
        what the whole clip gives at once.
        """
        if memory is None and clips.shape[2] == 1 and self.conv.stride[0] == 1:
            return self._first_frame(clips)
        past = None if memory is None else memory.get(self)
        clips = F.pad(clips, (0, 0, 0, 0, 2, 0)) if past is None else torch.cat([past, clips], dim=2)
        if memory is not None:
            memory[self] = clips[:, :, -2:]
        if self.flat and clips.device.type == "cpu":
            return self._by_frames(clips)
        return cast(Tensor, self.conv(F.pad(clips, self.padding)))

    def _by_frames(self, clips: Tensor) -> Tensor:
        # Each output frame is a 2-D convolution whose channels are those of the frames that it sees: on a CPU 2.5 times
        # as fast as torch's 3-D convolution, and the same up to rounding.
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        weight = self.conv.weight.flatten(1, 2)
        seen = (clips[:, :, start : start + kernel] for start in range(0, clips.shape[2] - kernel + 1, stride))
        made = [F.conv2d(F.pad(frames.flatten(1, 2), self.padding), weight, self.conv.bias) for frames in seen]
        return torch.stack(made, dim=2)

    def _first_frame(self, clips: Tensor) -> Tensor:
        # The other taps of the kernel would see only padding: a third of the work gives the same result.
        frame = F.pad(clips.squeeze(2), self.padding)
        return F.conv2d(frame, self.conv.weight[:, :, -1], self.conv.bias).unsqueeze(2)

    @torch.no_grad()
    def _pass_through(self) -> None:
        # Begin as the identity in space and the mean of the newest `stride` frames, plus a little noise: the spatial
        # layers then learn at once, as if the temporal ones were not there. Random kernels cost thousands of steps.
        weight = self.conv.weight
        newest = self.conv.stride[0]
        nn.init.normal_(weight, std=0.2 * weight[0].numel() ** -0.5)
        nn.init.zeros_(cast(Tensor, self.conv.bias))
        identity = torch.eye(weight.shape[0], weight.shape[1]) / newest
        weight[:, :, -newest:, weight.shape[3] // 2, weight.shape[4] // 2] += identity.unsqueeze(2)


class TemporalDownsample(nn.Module):
    """Halve the frame rate by a causal convolution of kernel (4, 3, 3) and stride (2, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, (4, 3, 3), (2, 1, 1))

    def forward(self, clips: Tensor, memory: Memory | None = None) -> Tensor:
        """[B, C, T, H, W] to [B, C, T/2, H, W]."""
        return cast(Tensor, self.conv(clips, memory))


class TemporalUpsample(nn.Module):
    """Double the frame rate by nearest neighbor, then a causal convolution of kernel 3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, (3, 3, 3))

    def forward(self, clips: Tensor, memory: Memory | None = None, frames: int | None = None) -> Tensor:
        """[B, C, T, H, W] to [B, C, 2T, H, W], or to only the first `frames` of them."""
        return cast(Tensor, self.conv(clips.repeat_interleave(2, dim=2)[:, :, :frames], memory))


def folded(frames: Tensor, side: int) -> Tensor:
    """[N, C, H, W] frames to [N, C side^2, H/side, W/side]: `pixel_unshuffle`, which takes three times as long where
    channels lie last in memory."""
    if not frames.is_contiguous(memory_format=torch.channels_last):
        return F.pixel_unshuffle(frames, side)
    count, channels, height, width = frames.shape
    rows, columns = height // side, width // side
    sites = frames.reshape(count, channels, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
    return sites.reshape(count, rows, columns, channels * side**2).permute(0, 3, 1, 2)


class Shortcut(nn.Module):
    """A linear codec of patches beside the network: `size` coordinates of each patch, and the patch that they make.

    `basis` [size, 3 patch^2] (rows orthonormal) and `offset` [3 patch^2] are fitted once (principal components), not
    trained; until then all is 0. Coordinates are halved, so that most lie within 1.
    """

    def __init__(self, size: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.basis: Tensor
        self.offset: Tensor
        self.register_buffer("basis", torch.zeros(size, 3 * patch**2))
        self.register_buffer("offset", torch.zeros(3 * patch**2))

    def forward(self, patches: Tensor) -> Tensor:
        """[N, 3 patch^2, h, w] patches, their pixels as channels (`folded`), to [N, size, h, w] coordinates."""
        return F.conv2d(patches - self.offset[:, None, None], self.basis[:, :, None, None] / 2)

    def frames(self, coordinates: Tensor) -> Tensor:
        """[N, size, h, w] coordinates to the [N, 3, h patch, w patch] frames that they stand for."""
        patches = F.conv2d(coordinates, self.basis.T[:, :, None, None] * 2, self.offset)
        return F.pixel_shuffle(patches, self.patch)


class FrameGroupNorm(nn.GroupNorm):
    """GroupNorm of clips, each frame by itself, so that no frame sees a later one."""

    def forward(self, clips: Tensor) -> Tensor:
        """[B, C, T, H, W] to the same shape."""
        frames = clips.transpose(1, 2)
        return super().forward(frames.flatten(0, 1)).reshape(frames.shape).transpose(1, 2)


class TemporalResBlock(nn.Module):
    """norm, swish, causal 3x3x3 convolution, twice, plus the input.

    The norm is BatchNorm3d (Emu3) or a GroupNorm of each frame, which trains the same with batches of any kind.
    """

    def __init__(self, channels: int, groups: int, norm: Literal["batch", "group"]) -> None:
        super().__init__()

        def make() -> nn.Module:
            return nn.BatchNorm3d(channels) if norm == "batch" else FrameGroupNorm(groups, channels, eps=_EPS)

        self.norm1 = make()
        self.conv1 = CausalConv3d(channels, channels, (3, 3, 3))
        self.norm2 = make()
        self.conv2 = CausalConv3d(channels, channels, (3, 3, 3))
        nn.init.zeros_(self.conv2.conv.weight)  # the block starts as the identity

    def forward(self, clips: Tensor, memory: Memory | None = None) -> Tensor:
        """[B, C, T, H, W] to the same shape."""
        h = self.conv1(F.silu(self.norm1(clips)), memory)
        return cast(Tensor, clips + self.conv2(F.silu(self.norm2(h)), memory))
