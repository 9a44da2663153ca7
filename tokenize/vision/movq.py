"""The MoVQ video tokenizer of Emu3 (Wang et al. 2024, section 2.2), configurable.

A spatial encoder works frame by frame; causal 3-D convolutions then merge 4 frames into one latent frame; a quantizer
turns every site into a code. The decoder mirrors it and sees the quantized vectors again in every norm (MoVQ, Zheng et
al. 2022). At `EMU3` the module has 270,740,287 parameters, named as in the published checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelmill.errors import ConfigError
from reelmill.tokenize.vision.layers import (
    Attention,
    CausalConv3d,
    Downsample,
    Memory,
    ResBlock,
    Shortcut,
    TemporalDownsample,
    TemporalResBlock,
    TemporalUpsample,
    Upsample,
    make_norm,
)
from reelmill.tokenize.vision.quantize import make_quantizer


@dataclass(frozen=True)
class MoVQConfig:
    """Shape of a tokenizer; the defaults are Emu3's.

    `channels` x `channel_multipliers` are the widths, one a level; neighbouring levels differ by 2 in resolution.
    `res_blocks` residual blocks a level in the encoder, one more in the decoder (or `decoder_blocks`), and as many
    temporal ones in each.
    `attention_levels` index levels with attention; `mid_attention` is the one at the bottleneck. `patch` folds
    that many pixels squared into channels before the first convolution (1: none) and unfolds them after the last.
    `z_channels` is the width of the temporal layers and equals `embed_dim`, the width that the quantizer sees.
    `causal`: a clip is one sequence, in which a latent frame also knows those before it; otherwise each 4 frames are a
    clip of their own, as in Emu3's own example. `shortcut` puts a linear codec of patches, averaged over the 4 frames,
    beside the network (`layers.Shortcut`; one level only): the network learns what that leaves.
    """

    channels: int = 256
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 4)
    res_blocks: int = 2
    attention_levels: tuple[int, ...] = (3,)
    mid_attention: bool = True
    patch: int = 1
    z_channels: int = 4
    embed_dim: int = 4
    temporal_factor: int = 4
    norm_groups: int = 32
    temporal_norm: Literal["batch", "group"] = "batch"
    temporal_norm_groups: int = 4
    quantizer: Literal["nearest", "fsq"] = "nearest"
    codes: int = 32768
    fsq_levels: tuple[int, ...] = ()
    causal: bool = False
    shortcut: bool = False
    decoder_blocks: int = 0

    def __post_init__(self) -> None:
        widths = [self.channels, *(self.channels * m for m in self.channel_multipliers)]
        if not self.channel_multipliers or any(width % self.norm_groups for width in widths):
            raise ConfigError(f"widths {widths} must all be multiples of norm_groups, which is {self.norm_groups}")
        if self.z_channels != self.embed_dim:
            # z and the quantized vectors pass through the same temporal layers of the decoder.
            raise ConfigError(f"z_channels {self.z_channels} and embed_dim {self.embed_dim} must be equal")
        if self.temporal_norm == "group" and self.z_channels % self.temporal_norm_groups:
            raise ConfigError(
                f"z_channels {self.z_channels} must be a multiple of temporal_norm_groups {self.temporal_norm_groups}"
            )
        if self.temporal_factor < 1 or self.temporal_factor & (self.temporal_factor - 1):
            raise ConfigError(f"temporal_factor {self.temporal_factor} must be a power of two")
        if self.decoder_blocks < 0:
            raise ConfigError(f"decoder_blocks {self.decoder_blocks} must be at least 0 (0: res_blocks + 1)")
        if self.patch < 1:
            raise ConfigError(f"patch {self.patch} must be at least 1")
        if self.shortcut and len(self.channel_multipliers) > 1:
            raise ConfigError(
                f"a shortcut goes with one level, not channel_multipliers {list(self.channel_multipliers)}; set "
                "shortcut to false, or give a single multiplier and a larger patch"
            )

    @property
    def spatial_factor(self) -> int:
        """Pixels a site, along each side."""
        return self.patch << (len(self.channel_multipliers) - 1)

    @property
    def temporal_stages(self) -> int:
        """How often the frame rate is halved."""
        return self.temporal_factor.bit_length() - 1


EMU3 = MoVQConfig()
"""Emu3-VisionTokenizer's configuration."""


@dataclass
class Stream:
    """What the next chunk of a clip needs of those before it. Begin a clip with a new one."""

    encoder: Memory = field(default_factory=dict)
    decoder: Memory = field(default_factory=dict)
    beside: Memory = field(default_factory=dict)


@dataclass
class Outputs:
    """A training pass. `pictures` and `clips` are reconstructions in the shape of the inputs, not clamped; `vectors`
    [N, D, 1, h, w] went into the quantizer, `codes` [N, 1, h, w] came out; `quantizer` is its own loss, a scalar."""

    pictures: Tensor
    clips: Tensor
    vectors: Tensor
    codes: Tensor
    quantizer: Tensor


class Level(nn.Module):
    """One resolution: residual blocks, attention after each where asked, and the step to the next resolution."""

    def __init__(
        self, widths: tuple[int, int], blocks: int, attention: bool, config: MoVQConfig, quantized: int | None
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

    def __init__(self, channels: int, config: MoVQConfig, quantized: int | None) -> None:
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


class Encoder(nn.Module):
    """Frames to latent frames, before quantization."""

    def __init__(self, config: MoVQConfig) -> None:
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
        self.time_conv = nn.ModuleList(TemporalDownsample(config.z_channels) for _ in range(config.temporal_stages))
        self.time_res_stack = _temporal_blocks(config)
        self.shortcut = Shortcut(config.embed_dim, config.patch) if config.shortcut else None
        if config.shortcut:
            _begin_at_zero(self.conv_out)

    def spatial(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] frames to [N, z, H/8, W/8]; with a shortcut its coordinates follow as further channels."""
        h = self.conv_in(F.pixel_unshuffle(frames, self.patch))
        for level in _levels(self.down):
            h = level(h)
            if level.downsample is not None:
                h = level.downsample(h)
        h = self.mid(h)
        features = self.conv_out(F.silu(self.norm_out(h, None)))
        return features if self.shortcut is None else torch.cat([features, self.shortcut(frames)], dim=1)

    def temporal(self, features: Tensor, memory: Memory | None = None) -> Tensor:
        """[B, z, T, h, w] to [B, z, T/4, h, w]."""
        for stage in self.time_conv:
            features = F.silu(stage(features, memory))
        for block in self.time_res_stack:
            features = block(features, memory)
        return features


class Decoder(nn.Module):
    """Quantized vectors to frames."""

    def __init__(self, config: MoVQConfig) -> None:
        super().__init__()
        self.patch = config.patch
        quantized = config.embed_dim
        self.time_res_stack = _temporal_blocks(config)
        self.time_conv = nn.ModuleList(TemporalUpsample(config.z_channels) for _ in range(config.temporal_stages))
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
        self.shortcut = Shortcut(config.embed_dim, config.patch) if config.shortcut else None
        if config.shortcut:
            _begin_at_zero(self.conv_out)

    def temporal(self, vectors: Tensor, memory: Memory | None = None, frames: int | None = None) -> Tensor:
        """[B, z, T, h, w] to [B, z, 4T, h, w], or to only the first `frames` of them."""
        for block in self.time_res_stack:
            vectors = block(vectors, memory)
        for stage in self.time_conv:
            # Causal: the first frames follow from the first frames.
            vectors = F.silu(stage(vectors, memory, frames))
        return vectors

    def spatial(self, features: Tensor, quantized: Tensor) -> Tensor:
        """[N, z, h, w] features (with a shortcut its coordinates follow) and quantized vectors to [N, 3, 8h, 8w]."""
        coordinates = features[:, self.conv_in.in_channels :]
        h = self.mid(self.conv_in(features[:, : self.conv_in.in_channels]), quantized)
        for level in reversed(_levels(self.up)):
            h = level(h, quantized)
            if level.upsample is not None:
                h = level.upsample(h)
        frames = F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(h, quantized))), self.patch)
        return frames if self.shortcut is None else frames + self.shortcut.frames(coordinates)


class MoVQ(nn.Module):
    """The tokenizer as a module. Clips are [B, T, 3, H, W] in [-1, 1], T a multiple of 4, sides multiples of 8."""

    def __init__(self, config: MoVQConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = make_quantizer(config.quantizer, config.codes, config.fsq_levels, config.embed_dim)
        self.quant_conv = CausalConv3d(config.z_channels, config.embed_dim, (3, 1, 1))
        self.post_quant_conv = CausalConv3d(config.embed_dim, config.z_channels, (3, 1, 1))

    def forward(self, pictures: Tensor, clips: Tensor) -> Outputs:
        """A training pass over [P, 3, H, W] pictures and [B, T, 3, H, W] clips of one size."""
        drawn = self.image_latents(pictures)
        played = self.latents(clips)
        vectors = torch.cat([_frames_as_batch(drawn), _frames_as_batch(played)])
        quantized, codes, own = self.quantize(vectors)
        still, moving = quantized.split([len(pictures), len(vectors) - len(pictures)])
        moving = moving.squeeze(2).reshape(len(played), -1, *moving.shape[1:2], *moving.shape[3:]).transpose(1, 2)
        decoded = self.reconstruct(moving).reshape(clips.shape)
        return Outputs(self.reconstruct(still, frames=1).squeeze(1), decoded, vectors, codes, own)

    def freeze_codes(self) -> None:
        """From now on only what comes after the codes learns: encoder and codebook, and so every code, stay."""
        for part in (self.encoder, self.quant_conv, self.quantize):
            part.requires_grad_(False).eval()  # in evaluation: BatchNorm's statistics stay too

    def latents(self, clips: Tensor, stream: Stream | None = None) -> Tensor:
        """[B, T, 3, H, W] clips to [B, D, T/4, H/8, W/8] vectors that the quantizer takes (not causal: [B T/4, D, 1,
        H/8, W/8]). With a `stream` the clips go on where the last ones ended."""
        features = self.encoder.spatial(clips.flatten(0, 1))
        length = clips.shape[1] if self.config.causal else self.config.temporal_factor
        return self.merge(features.reshape(-1, length, *features.shape[1:]), stream)

    def image_latents(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] images to [B, D, 1, H/8, W/8]: each is a clip of 4 equal frames, encoded spatially once."""
        features = self.encoder.spatial(images).unsqueeze(1)
        return self.merge(features.expand(-1, self.config.temporal_factor, -1, -1, -1))

    def encode(self, clips: Tensor, stream: Stream | None = None) -> Tensor:
        """[B, T, 3, H, W] clips to [B, T/4, H/8, W/8] codes."""
        codes = self.quantize.encode(self.latents(clips, stream))
        return codes.reshape(len(clips), -1, *codes.shape[2:])

    def encode_images(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] images to [B, H/8, W/8] codes."""
        return self.quantize.encode(self.image_latents(images)).squeeze(1)

    def decode(self, codes: Tensor, stream: Stream | None = None) -> Tensor:
        """[B, T, h, w] codes to [B, 4T, 3, 8h, 8w] clips, not clamped."""
        sequences = codes if self.config.causal else codes.flatten(0, 1).unsqueeze(1)
        clips = self.reconstruct(self.quantize.decode(sequences), stream=stream)
        return clips.reshape(len(codes), -1, *clips.shape[2:])

    def decode_images(self, codes: Tensor) -> Tensor:
        """[B, h, w] codes to [B, 3, 8h, 8w] images: the first of the 4 frames that they decode to."""
        return self.reconstruct(self.quantize.decode(codes.unsqueeze(1)), frames=1).squeeze(1)

    def reconstruct(self, quantized: Tensor, frames: int | None = None, stream: Stream | None = None) -> Tensor:
        """[B, D, T, h, w] quantized vectors to [B, 4T, 3, 8h, 8w] clips, or only their first `frames` frames."""
        features, beside = self.expand(quantized, frames, stream)
        decoded = self.decoder.spatial(features.flatten(0, 1), beside.flatten(0, 1))
        return decoded.reshape(*features.shape[:2], *decoded.shape[1:])

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


def _begin_at_zero(layer: nn.Conv2d) -> None:
    # The network begins as nothing: what is there at first is the shortcut, and every step improves on it.
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(cast(Tensor, layer.bias))


def _frames_as_batch(vectors: Tensor) -> Tensor:
    """[B, D, T, h, w] to [B T, D, 1, h, w]."""
    return vectors.transpose(1, 2).flatten(0, 1).unsqueeze(2)


def _levels(modules: nn.ModuleList) -> list[Level]:
    return [cast(Level, module) for module in modules]


def _temporal_blocks(config: MoVQConfig) -> nn.ModuleList:
    return nn.ModuleList(
        TemporalResBlock(config.z_channels, config.temporal_norm_groups, config.temporal_norm)
        for _ in range(config.res_blocks)
    )
