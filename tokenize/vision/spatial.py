"""The spatial half of a tokenizer, frame by frame: residual blocks over levels of resolution, and back (VQGAN's).

Parameter names are those of Emu3's and Emu3.5's published checkpoints.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelmill.tokenize.vision.config import TokenizerConfig
from reelmill.tokenize.vision.layers import Attention, Downsample, ResBlock, Shortcut, Upsample, folded, make_norm


class Level(nn.Module):
    """One resolution: residual blocks, optional attention after each, and the step to the next resolution."""

    def __init__(
        self, widths: tuple[int, int], blocks: int, attention: bool, config: TokenizerConfig, quantized: int | None
    ) -> None:
        super().__init__()
        inputs, outputs = widths
        groups = config.norm_groups
        self.downsample: Downsample | None = None
        self.upsample: Upsample | None = None
        self.block = nn.ModuleList(
            ResBlock(inputs if i == 0 else outputs, outputs, groups, quantized) for i in range(blocks)
        )
        self.attn = nn.ModuleList(Attention(outputs, groups, quantized) for _ in range(blocks if attention else 0))

    def forward(self, frames: Tensor, quantized: Tensor | None = None) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H, W], before any change of resolution."""
        for i, block in enumerate(self.block):
            frames = block(frames, quantized)
            if len(self.attn):
                frames = self.attn[i](frames, quantized)
        return frames


class Middle(nn.Module):
    """The bottleneck: residual block, attention, residual block."""

    def __init__(self, channels: int, config: TokenizerConfig, quantized: int | None) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels, config.norm_groups, quantized)
        if config.mid_attention:
            self.attn_1 = Attention(channels, config.norm_groups, quantized)
        self.block_2 = ResBlock(channels, channels, config.norm_groups, quantized)

    def forward(self, frames: Tensor, quantized: Tensor | None = None) -> Tensor:
        """[N, C, H, W] to the same shape."""
        frames = self.block_1(frames, quantized)
        if hasattr(self, "attn_1"):
            frames = self.attn_1(frames, quantized)
        return cast(Tensor, self.block_2(frames, quantized))


class SpatialEncoder(nn.Module):
    """Frames to features of codes."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.conv_in = nn.Conv2d(3 * config.patch**2, config.channels, 3, padding=1)
        self.down = nn.ModuleList()
        width = config.channels
        for i, multiplier in enumerate(config.channel_multipliers):
            outputs = config.channels * multiplier
            level = Level((width, outputs), config.res_blocks, i in config.attention_levels, config, None)
            if i < len(config.channel_multipliers) - 1:
                level.downsample = Downsample(outputs)
            self.down.append(level)
            width = outputs
        self.mid = Middle(width, config, None)
        self.norm_out = make_norm(width, config.norm_groups, None)
        self.conv_out = nn.Conv2d(width, config.z_channels, 3, padding=1)
        self.shortcut = Shortcut(config.embed_dim, config.spatial_factor) if config.shortcut else None
        if config.shortcut:
            _begin_at_zero(self.conv_out)

    def spatial(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] frames to [N, z, h, w]; with a shortcut its coordinates follow as further channels."""
        patches = folded(frames, self.patch)
        h = self.conv_in(patches)
        for level in _levels(self.down):
            h = level(h)
            if level.downsample is not None:
                h = level.downsample(h)
        h = self.mid(h)
        features = self.conv_out(F.silu(self.norm_out(h, None)))
        if self.shortcut is None:
            return cast(Tensor, features)
        if self.shortcut.patch != self.patch:
            patches = folded(frames, self.shortcut.patch)
        return torch.cat([features, self.shortcut(patches)], dim=1)


class SpatialDecoder(nn.Module):
    """Features to frames. `quantized`: channels of the quantized vectors that its norms see (MoVQ), or None."""

    def __init__(self, config: TokenizerConfig, quantized: int | None) -> None:
        super().__init__()
        self.patch = config.patch
        width = config.channels * config.channel_multipliers[-1]
        self.conv_in = nn.Conv2d(config.z_channels, width, 3, padding=1)
        self.mid = Middle(width, config, quantized)
        blocks = config.decoder_blocks or config.res_blocks + 1
        levels: list[Level] = []
        for i, multiplier in reversed(list(enumerate(config.channel_multipliers))):
            outputs = config.channels * multiplier
            level = Level((width, outputs), blocks, i in config.attention_levels, config, quantized)
            if i > 0:
                level.upsample = Upsample(outputs)
            levels.insert(0, level)
            width = outputs
        self.up = nn.ModuleList(levels)
        self.norm_out = make_norm(width, config.norm_groups, quantized)
        self.conv_out = nn.Conv2d(width, 3 * config.patch**2, 3, padding=1)
        self.shortcut = Shortcut(config.embed_dim, config.spatial_factor) if config.shortcut else None
        if config.shortcut:
            _begin_at_zero(self.conv_out)

    def spatial(self, features: Tensor, quantized: Tensor) -> Tensor:
        """[N, z, h, w] features (with a shortcut its coordinates follow) and quantized vectors to [N, 3, H, W]."""
        coordinates = features[:, self.conv_in.in_channels :]
        h = self.mid(self.conv_in(features[:, : self.conv_in.in_channels]), quantized)
        for level in reversed(_levels(self.up)):
            h = level(h, quantized)
            if level.upsample is not None:
                h = level.upsample(h)
        frames = F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(h, quantized))), self.patch)
        return frames if self.shortcut is None else frames + self.shortcut.frames(coordinates)


def _begin_at_zero(layer: nn.Conv2d) -> None:
    # The network starts at zero: at first there is only the shortcut, and every step improves on it.
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(cast(Tensor, layer.bias))


def _levels(modules: nn.ModuleList) -> list[Level]:
    return [cast(Level, module) for module in modules]
