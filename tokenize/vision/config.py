"""What every tokenizer's configuration says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reelmill.errors import ConfigError


@dataclass(frozen=True)
class TokenizerConfig:
    """Shape of a tokenizer.

    `channels` x `channel_multipliers` are the widths, one a level; neighbouring levels differ by 2 in resolution.
    `res_blocks` residual blocks a level in the encoder, one more in the decoder (or `decoder_blocks`).
    `attention_levels` index levels with attention; `mid_attention` is the one at the bottleneck. `patch` folds
    that many pixels squared into channels before the first convolution (1: none) and unfolds them after the last.
    `z_channels` stand between encoder and quantizer, `embed_dim` is the width that the quantizer sees. `shortcut` puts
    a linear codec of patches as large as a code beside the network (`layers.Shortcut`): the network learns what that
    leaves.
    """

    channels: int
    channel_multipliers: tuple[int, ...]
    res_blocks: int
    attention_levels: tuple[int, ...]
    z_channels: int
    embed_dim: int
    codes: int
    quantizer: Literal["nearest", "fsq", "ibq"]
    temporal_factor: int = 1
    causal: bool = False
    mid_attention: bool = True
    patch: int = 1
    norm_groups: int = 32
    fsq_levels: tuple[int, ...] = ()
    shortcut: bool = False
    decoder_blocks: int = 0

    def __post_init__(self) -> None:
        widths = [self.channels, *(self.channels * m for m in self.channel_multipliers)]
        if not self.channel_multipliers or any(width % self.norm_groups for width in widths):
            raise ConfigError(f"widths {widths} must all be multiples of norm_groups, which is {self.norm_groups}")
        if self.decoder_blocks < 0:
            raise ConfigError(f"decoder_blocks {self.decoder_blocks} must be at least 0 (0: res_blocks + 1)")
        if self.patch < 1:
            raise ConfigError(f"patch {self.patch} must be at least 1")

    @property
    def spatial_factor(self) -> int:
        """Pixels a site, along each side."""
        return self.patch << (len(self.channel_multipliers) - 1)
