"""Emu3.5's tokenizer of single frames (arXiv 2510.26583, section 2.3; IBQ, arXiv 2412.02692), configurable.

VQGAN's encoder and decoder, a quantizer whose codebook learns as a whole (`index_backprop.py`), a 1x1 convolution on
either side of it. There is no time axis: a clip is its frames. At `EMU3_5` the module has 455,336,963 parameters, named
as in the published checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from reelmill.errors import ConfigError
from reelmill.tokenize.vision.config import TokenizerConfig
from reelmill.tokenize.vision.model import Stream, TokenizerModel
from reelmill.tokenize.vision.quantizers import make_quantizer
from reelmill.tokenize.vision.spatial import SpatialDecoder, SpatialEncoder


@dataclass(frozen=True)
class IBQConfig(TokenizerConfig):
    """Shape of a tokenizer; the defaults are Emu3.5's: those of the public IBQ tokenizers, twice as wide, whose numbers
    of parameters sum up to the published one. The fields are described in `TokenizerConfig`."""

    channels: int = 256
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    res_blocks: int = 4
    attention_levels: tuple[int, ...] = (4,)
    z_channels: int = 256
    embed_dim: int = 256
    codes: int = 131_072
    quantizer: Literal["nearest", "fsq", "ibq"] = "ibq"
    architecture: Literal["ibq"] = "ibq"
    """The fields in which these tokenizers differ."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temporal_factor != 1 or self.causal:
            raise ConfigError("an IBQ tokenizer has no time axis: temporal_factor is 1 and causal false")


EMU3_5 = IBQConfig()
"""Emu3.5-VisionTokenizer's configuration."""


class IBQ(TokenizerModel):
    """The tokenizer as a module. Frames are [N, 3, H, W] in [-1, 1], sides multiples of 16 (of `spatial_factor`)."""

    def __init__(self, config: IBQConfig) -> None:
        super().__init__()
        self.config: IBQConfig = config
        self.encoder = SpatialEncoder(config)
        self.decoder = SpatialDecoder(config, None)
        self.quantize = make_quantizer(config.quantizer, config.codes, config.fsq_levels, config.embed_dim)
        self.quant_conv = nn.Conv2d(config.z_channels, config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)

    def freeze_codes(self) -> None:
        """Train only the decoder from now on: encoder and codebook, and therefore all codes, stay fixed."""
        for part in (self.encoder, self.quant_conv, self.quantize):
            part.requires_grad_(False).eval()

    def encode_frames(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] frames to [N, z, H/16, W/16]; with a shortcut D coordinates follow as further channels."""
        return self.encoder.spatial(frames)

    def merge(self, features: Tensor, stream: Stream | None = None) -> Tensor:
        """[B, T, z (+ D), h, w] features of frames to [B, D, T, h, w] vectors that the quantizer takes."""
        flat = features.flatten(0, 1)
        vectors: Tensor = self.quant_conv(flat[:, : self.config.z_channels])
        if self.config.shortcut:
            vectors = vectors + flat[:, self.config.z_channels :]
        return vectors.reshape(*features.shape[:2], *vectors.shape[1:]).transpose(1, 2)

    def expand(self, quantized: Tensor, frames: int | None, stream: Stream | None) -> tuple[Tensor, Tensor]:
        """[B, D, T, h, w] quantized vectors to features of frames [B, T, z (+ D), h, w], and the vectors beside them
        (or only the first `frames`)."""
        beside = quantized.transpose(1, 2)[:, :frames]
        flat = beside.flatten(0, 1)
        features: Tensor = self.post_quant_conv(flat)
        if self.config.shortcut:
            features = torch.cat([features, flat], dim=1)
        return features.reshape(*beside.shape[:2], *features.shape[1:]), beside

    def decode_frames(self, features: Tensor, beside: Tensor) -> Tensor:
        """[N, z (+ D), h, w] features to [N, 3, 16h, 16w] frames."""
        return self.decoder.spatial(features, beside)
