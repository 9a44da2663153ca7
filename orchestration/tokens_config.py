"""Options of the tokenize stage, apart from it so that reading a recipe does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from reelmill.config import free
from reelmill.curation.interleaving import InterleavedConfig
from reelmill.curation.narration import NarrationConfig


@dataclass
class TokensConfig:
    """How kept samples become documents."""

    tokenizer: str = "reelmill-tok-s"
    """A shipped vision tokenizer or the path of one."""
    text: Literal["qwen", "bytes"] = "qwen"
    """Text tokenizer: Emu3's BPE, or UTF-8 bytes."""
    area: int = 512 * 512
    """Pixels of a frame after resizing, aspect kept (Emu3 section 2.4: about 512 x 512)."""
    fps: float = 24.0
    """Frames a second of tokenized video, the source's where that is lower (Emu3 section 3.2: 24)."""
    max_latent_frames: int = 30
    """Latent frames per document; 30 x 64 x 64 codes fit Emu3's context of 131,072. Longer clips give several parts.
    With a tokenizer without a time axis each frame is one, and an image of its own: 30 of 32 x 32 codes fit 32,768."""
    caption_after: float = 0.2
    """Share of documents with the caption after the vision tokens (Emu3 section 2.4; the share is not disclosed)."""
    seed: int = 0
    """Seed of what is drawn, such as which captions stand after."""
    documents: Literal["clips", "narrated", "interleaved"] = "clips"
    """What a video becomes: clips with captions, or key frames and spoken words in order of time (`narrated`, Emu3.5
    section 3.1.1; wants the expander of narrated videos, and transcripts). `interleaved`: as clips, and web pages
    become their text and pictures in reading order."""
    layout: Literal["", "emu3", "emu3.5"] = ""
    """How images are laid out: as Emu3 or Emu3.5 does; where it is empty as the vision tokenizer was made for."""
    narration: NarrationConfig = field(default_factory=NarrationConfig)
    interleaved: InterleavedConfig = field(default_factory=InterleavedConfig)
    device: Literal["auto", "cpu", "cuda"] = free("auto")
    """Where frames are encoded; auto takes a GPU where the worker sees one."""
    batch: int = free(32)
    """Frames that a GPU encodes at once, a multiple of 4."""
    compile: bool = free(False)
    """Compile the encoder (torch.compile): worth it where many frames of few sizes are encoded on a GPU."""
    trust_dump: bool = free(False)
    """Take an item whose file has the size, time and first 64 KiB of when it was scored for the same, unread."""
