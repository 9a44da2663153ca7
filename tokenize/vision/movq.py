"""The MoVQ video tokenizer of Emu3 (Wang et al. 2024, section 2.2), configurable.

A spatial encoder works frame by frame; causal 3-D convolutions then merge 4 frames into one latent frame; a quantizer
turns every site into a code. The decoder mirrors it and sees the quantized vectors again in every norm (MoVQ, Zheng et
al. 2022). At `EMU3` the module has 270,740,287 parameters, named as in the published checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelmill.errors import ConfigError
from reelmill.tokenize.vision.config import TokenizerConfig
from reelmill.tokenize.vision.layers import (
    CausalConv3d,
    Memory,
    TemporalDownsample,
    TemporalResBlock,
    TemporalUpsample,
)
from reelmill.tokenize.vision.model import Stream, TokenizerModel
from reelmill.tokenize.vision.quantizers import make_quantizer
from reelmill.tokenize.vision.spatial import SpatialDecoder, SpatialEncoder


@dataclass(frozen=True)
class MoVQConfig(TokenizerConfig):
    """Shape of a tokenizer of Emu3's kind; the defaults are Emu3's.

    There are as many temporal residual blocks as `res_blocks`, in the encoder and in the decoder each. `z_channels` is
    the width of the temporal layers and equals `embed_dim`. `causal`: a clip is one sequence, in which a latent frame
    also knows those before it; otherwise each 4 frames are a clip of their own, as in Emu3's own example. The
    coordinates of a `shortcut` are averaged over the 4 frames.
    """

    channels: int = 256
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 4)
    res_blocks: int = 2
    attention_levels: tuple[int, ...] = (3,)
    z_channels: int = 4
    embed_dim: int = 4
    codes: int = 32768
    quantizer: Literal["nearest", "fsq", "ibq"] = "nearest"
    temporal_factor: int = 4
    temporal_norm: Literal["batch", "group"] = "batch"
    """Norm of the temporal layers."""
    temporal_norm_groups: int = 4
    """Groups of that norm, where it is `group`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.z_channels != self.embed_dim:
            # z and the quantized vectors pass through the same temporal layers of the decoder.
            raise ConfigError(f"z_channels {self.z_channels} and embed_dim {self.embed_dim} must be equal")
        if self.temporal_norm == "group" and self.z_channels % self.temporal_norm_groups:
            raise ConfigError(
                f"z_channels {self.z_channels} must be a multiple of temporal_norm_groups {self.temporal_norm_groups}"
            )
        if self.temporal_factor < 1 or self.temporal_factor & (self.temporal_factor - 1):
            raise ConfigError(f"temporal_factor {self.temporal_factor} must be a power of two")

    @property
    def temporal_stages(self) -> int:
        """How often the frame rate is halved."""
        return self.temporal_factor.bit_length() - 1


EMU3 = MoVQConfig()
"""Emu3-VisionTokenizer's configuration."""


class Encoder(SpatialEncoder):
    """Frames to latent frames, before quantization."""

    def __init__(self, config: MoVQConfig) -> None:
        super().__init__(config)
        self.time_conv = nn.ModuleList(TemporalDownsample(config.z_channels) for _ in range(config.temporal_stages))
        self.time_res_stack = _temporal_blocks(config)

    def temporal(self, features: Tensor, memory: Memory | None = None) -> Tensor:
        """[B, z, T, h, w] to [B, z, T/4, h, w]."""
        for stage in self.time_conv:
            features = F.silu(stage(features, memory))
        for block in self.time_res_stack:
            features = block(features, memory)
        return features


class Decoder(SpatialDecoder):
    """Quantized vectors to frames."""

    def __init__(self, config: MoVQConfig) -> None:
        super().__init__(config, config.embed_dim)
        self.time_res_stack = _temporal_blocks(config)
        self.time_conv = nn.ModuleList(TemporalUpsample(config.z_channels) for _ in range(config.temporal_stages))

    def temporal(self, vectors: Tensor, memory: Memory | None = None, frames: int | None = None) -> Tensor:
        """[B, z, T, h, w] to [B, z, 4T, h, w], or to only the first `frames` of them."""
        for block in self.time_res_stack:
            vectors = block(vectors, memory)
        for stage in self.time_conv:
            # Causal: the first frames depend only on the first latent frames.
            vectors = F.silu(stage(vectors, memory, frames))
        return vectors


class MoVQ(TokenizerModel):
    """The tokenizer as a module. Clips are [B, T, 3, H, W] in [-1, 1], T a multiple of 4, sides multiples of 8."""

    def __init__(self, config: MoVQConfig) -> None:
        super().__init__()
        self.config: MoVQConfig = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = make_quantizer(config.quantizer, config.codes, config.fsq_levels, config.embed_dim)
        self.quant_conv = CausalConv3d(config.z_channels, config.embed_dim, (3, 1, 1))
        self.post_quant_conv = CausalConv3d(config.embed_dim, config.z_channels, (3, 1, 1))

    def freeze_codes(self) -> None:
        """Train only the decoder from now on: encoder and codebook, and therefore all codes, stay fixed."""
        for part in (self.encoder, self.quant_conv, self.quantize):
            part.requires_grad_(False).eval()  # evaluation mode keeps BatchNorm's statistics fixed too

    def encode_frames(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] frames to [N, z, H/8, W/8]; with a shortcut D coordinates follow as further channels."""
        return self.encoder.spatial(frames)

    def decode_frames(self, features: Tensor, beside: Tensor) -> Tensor:
        """[N, z (+ D), h, w] features and quantized vectors to [N, 3, 8h, 8w]."""
        return self.decoder.spatial(features, beside)

    def expand(self, quantized: Tensor, frames: int | None, stream: Stream | None) -> tuple[Tensor, Tensor]:
        """[B, D, T, h, w] quantized vectors to what the spatial decoder takes: features (with a shortcut, D coordinates
        more) and, beside them, the quantized vectors, both [B, 4T, D, h, w] (or only their first `frames`)."""
        memory, memory_beside = (stream.decoder, stream.beside) if stream else (None, None)
        features = self.decoder.temporal(self.post_quant_conv(quantized, memory), memory, frames)
        beside = self.decoder.temporal(quantized, memory_beside, frames)
        if self.config.shortcut:
            held = quantized.repeat_interleave(self.config.temporal_factor, dim=2)[:, :, :frames]
            features = torch.cat([features, held], dim=1)
        return features.transpose(1, 2), beside.transpose(1, 2)

    def merge(self, features: Tensor, stream: Stream | None = None) -> Tensor:
        """[B, T, z (+ D), h, w] spatial features of frames to [B, D, T/4, h, w] vectors that the quantizer takes."""
        memory = stream.encoder if stream else None
        coordinates = features[:, :, self.config.z_channels :]
        features = features[:, :, : self.config.z_channels].transpose(1, 2)
        vectors = self.quant_conv(self.encoder.temporal(features, memory), memory)
        if self.config.shortcut:
            chunks = coordinates.reshape(len(features), -1, self.config.temporal_factor, *coordinates.shape[2:])
            vectors = vectors + chunks.mean(2).transpose(1, 2)
        return cast(Tensor, vectors)


def _temporal_blocks(config: MoVQConfig) -> nn.ModuleList:
    return nn.ModuleList(
        TemporalResBlock(config.z_channels, config.temporal_norm_groups, config.temporal_norm)
        for _ in range(config.res_blocks)
    )
