"""The network of a tokenizer: frames to vectors for a quantizer, and quantized vectors to frames.

A network defines four steps (`encode_frames`, `merge`, `expand`, `decode_frames`); training passes, codes and
reconstructions follow from these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from reelmill.tokenize.vision.config import TokenizerConfig
from reelmill.tokenize.vision.layers import Memory
from reelmill.tokenize.vision.quantize import Quantizer


@dataclass
class Stream:
    """What the next chunk of a clip needs from the chunks before it. Start each clip with a new one."""

    encoder: Memory = field(default_factory=dict)
    decoder: Memory = field(default_factory=dict)
    beside: Memory = field(default_factory=dict)


@dataclass
class Outputs:
    """A training pass. `pictures` and `clips` are reconstructions in the shape of the inputs, not clamped; `vectors`
    [N, D, 1, h, w] went into the quantizer, `codes` [N, 1, h, w] came out; `quantizer` is its own loss, a scalar, and
    `entropy` that of the choice of codes, where the quantizer has one."""

    pictures: Tensor
    clips: Tensor
    vectors: Tensor
    codes: Tensor
    quantizer: Tensor
    entropy: Tensor | None = None


class TokenizerModel(nn.Module, ABC):
    """A tokenizer as a module. Clips are [B, T, 3, H, W] in [-1, 1]; T is a multiple of `temporal_factor`, sides are
    multiples of `spatial_factor`. The shapes below are those of factors 4 and 8."""

    config: TokenizerConfig
    quantize: Quantizer

    @abstractmethod
    def encode_frames(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] frames to [N, z, H/8, W/8] features."""

    @abstractmethod
    def merge(self, features: Tensor, stream: Stream | None = None) -> Tensor:
        """[B, T, z, h, w] features of frames to [B, D, T/4, h, w] vectors that the quantizer takes. With a `stream`
        they go on where the last ones ended."""

    @abstractmethod
    def expand(self, quantized: Tensor, frames: int | None, stream: Stream | None) -> tuple[Tensor, Tensor]:
        """[B, D, T, h, w] quantized vectors to what the spatial decoder takes: features and, beside them, the quantized
        vectors, both [B, 4T, ...] (or only their first `frames`)."""

    @abstractmethod
    def decode_frames(self, features: Tensor, beside: Tensor) -> Tensor:
        """[N, z, h, w] features, and what stands beside them, to [N, 3, 8h, 8w] frames."""

    @abstractmethod
    def freeze_codes(self) -> None:
        """Train only the decoder from now on: encoder and codebook, and therefore all codes, stay fixed."""

    def forward(self, pictures: Tensor, clips: Tensor) -> Outputs:
        """A training pass over [P, 3, H, W] pictures and [B, T, 3, H, W] clips of one size; B may be 0."""
        drawn = frames_as_batch(self.image_latents(pictures))
        if not len(clips):
            found = self.quantize(drawn)
            image = self.reconstruct(found.vectors, frames=1).squeeze(1)
            return Outputs(image, clips, drawn, found.codes, found.loss, found.entropy)
        played = self.latents(clips)
        vectors = torch.cat([drawn, frames_as_batch(played)])
        found = self.quantize(vectors)
        still, moving = found.vectors.split([len(pictures), len(vectors) - len(pictures)])
        latents = moving.squeeze(2).reshape(*played.transpose(1, 2).shape).transpose(1, 2)
        decoded = self.reconstruct(latents).reshape(clips.shape)
        image = self.reconstruct(still, frames=1).squeeze(1)
        return Outputs(image, decoded, vectors, found.codes, found.loss, found.entropy)

    def latents(self, clips: Tensor, stream: Stream | None = None) -> Tensor:
        """[B, T, 3, H, W] clips to [B, D, T/4, H/8, W/8] vectors that the quantizer takes (not causal: [B T/4, D, 1,
        H/8, W/8]). With a `stream` the clips go on where the last ones ended."""
        features = self.encode_frames(clips.flatten(0, 1))
        length = clips.shape[1] if self.config.causal else self.config.temporal_factor
        return self.merge(features.reshape(-1, length, *features.shape[1:]), stream)

    def image_latents(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] images to [B, D, 1, H/8, W/8]: each is a clip of 4 equal frames, encoded spatially once."""
        features = self.encode_frames(images).unsqueeze(1)
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
        decoded = self.decode_frames(features.flatten(0, 1), beside.flatten(0, 1))
        return decoded.reshape(*features.shape[:2], *decoded.shape[1:])


def frames_as_batch(vectors: Tensor) -> Tensor:
    """[B, D, T, h, w] to [B T, D, 1, h, w]."""
    return vectors.transpose(1, 2).flatten(0, 1).unsqueeze(2)
