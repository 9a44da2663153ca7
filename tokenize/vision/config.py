"""The configuration that all tokenizers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reelmill.errors import ConfigError


@dataclass(frozen=True)
class TokenizerConfig:
    """Shape of a tokenizer."""

    channels: int
    """Width of the first level."""
    channel_multipliers: tuple[int, ...]
    """Widths of the levels, times `channels`; neighboring levels differ by 2 in resolution."""
    res_blocks: int
    """Residual blocks per level in the encoder; one more in the decoder."""
    attention_levels: tuple[int, ...]
    """Levels with attention, from 0."""
    z_channels: int
    """Channels between encoder and quantizer."""
    embed_dim: int
    """Width of the vectors that the quantizer gets."""
    codes: int
    """Size of the codebook."""
    quantizer: Literal["nearest", "fsq", "ibq"]
    """How a vector becomes a code: the nearest one, finite scalars, or index backpropagation."""
    temporal_factor: int = 1
    """Frames per latent frame."""
    causal: bool = False
    """A clip is one sequence, in which a latent frame also knows those before it."""
    mid_attention: bool = True
    """Attention at the bottleneck."""
    patch: int = 1
    """Pixels squared that are folded into channels before the first convolution, and unfolded after the last; 1:
    none."""
    norm_groups: int = 32
    """Groups of each GroupNorm."""
    fsq_levels: tuple[int, ...] = ()
    """Values of each dimension of finite scalar quantization."""
    shortcut: bool = False
    """A linear codec of patches as large as a code beside the network, which learns what that leaves
    (`layers.Shortcut`)."""
    decoder_blocks: int = 0
    """Residual blocks per level in the decoder; 0: one more than `res_blocks`."""

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
        """Pixels per code, along each side."""
        return self.patch << (len(self.channel_multipliers) - 1)
