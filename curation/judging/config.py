"""A recipe's `[judging]`: which judges are asked about narrated videos, by which models, and what they are shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from reelmill.config import at_least, free, identity, nearest
from reelmill.curation.captions.config import CaptionConfig, EndpointConfig
from reelmill.curation.judging.prompts import load_prompts
from reelmill.errors import ConfigError

JUDGES: Mapping[str, str] = {
    **{"speech": "text", "talking_head": "vision", "frames": "vision"},
    **{"agreement": "clip", "perplexity": "lm"},
}
"""Judges, and the table of `[judging]` with the model of each."""


@dataclass
class ClipConfig:
    """CLIP, which tells whether the pictures show what is said."""

    model: str = "ViT-L-14-quickgelu"
    """open_clip's name of the architecture."""
    checkpoint: str = ""
    """A file of weights; the registry's `clip-vit-l14` when empty."""


@dataclass
class LmConfig:
    """A language model that reads transcripts."""

    model: str = ""
    """Folder of a causal model of Transformers: config.json, weights in safetensors, tokenizer."""


@dataclass
class JudgingConfig:
    """Emu3.5's filters that ask a model (section 3.1.1): a language model scores transcripts, a vision model tells
    talking heads, DeQA scores frames, FG-CLIP compares pictures. No prompt and no bound is disclosed; these are ours.
    """

    ask: list[str] = field(default_factory=list)
    """Of speech, talking_head, frames, agreement and perplexity: who is asked, and which columns are filled."""
    text: EndpointConfig = field(default_factory=EndpointConfig)
    """Endpoint of the language model that reads the transcript, for `speech`."""
    vision: EndpointConfig = field(default_factory=EndpointConfig)
    """Endpoint of the vision model that looks at key frames, for `talking_head` and `frames`."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    """Weights on this machine, for `agreement`."""
    lm: LmConfig = field(default_factory=LmConfig)
    """A language model on this machine, for `perplexity`."""
    prompts: str = ""
    """A TOML file of prompts; the shipped one when empty."""
    frames: int = 8
    """Key frames that are shown, at most, evenly spaced."""
    short_side: int = 256
    """Pixels of a key frame; the longer side is at most three times that. Never enlarged."""
    jpeg_quality: int = 90
    """Quality of the JPEG files that are sent, 1 to 95."""
    words: int = 1500
    """Words of the transcript that are shown, at most, from its middle; Chinese characters count as one each."""
    near_s: float = 2.0
    """Seconds before and after a key frame in which words belong to it, for `agreement`."""
    max_tokens: int = 1000
    """Longest answer."""
    temperature: float = 0.0
    """Randomness of the answers; 0 takes the likeliest token."""
    batch: int = free(16)
    """Videos whose judgements are committed together: what a kill may cost."""

    def model_of(self, judge: str) -> str:
        """The model that a judge's rows name."""
        model: str = getattr(self, JUDGES[judge]).model
        return model


_ENDPOINTS = ("text", "vision")


def check(config: JudgingConfig) -> None:
    """Raise ConfigError for judges, models, addresses, prompts or numbers that cannot be used."""
    for judge in config.ask:
        if judge not in JUDGES:
            raise ConfigError(f"judging.ask: unknown {judge!r}; {nearest(judge, JUDGES)}")
        table = JUDGES[judge]
        if not config.model_of(judge):
            raise ConfigError(f"judging.{table}.model is empty; name the model that judges {judge}")
        if table in _ENDPOINTS:
            endpoint: EndpointConfig = getattr(config, table)
            CaptionConfig(endpoint=endpoint).source("endpoint").check(f"judging.{table}")
    if config.ask:
        load_prompts(config.prompts)
    at_least("judging", config, frames=1, short_side=16, words=1, max_tokens=1, batch=1, near_s=0)


def fingerprint(config: JudgingConfig, judge: str) -> str:
    """What a judge's answer depends on beside what is said and seen; 16 hex digits."""
    settings: dict[str, Any] = identity(config)
    for one in fields(config):
        if one.name in {"ask", "prompts", *JUDGES.values()} - {JUDGES[judge]}:
            del settings[one.name]
    if JUDGES[judge] in _ENDPOINTS:
        prompts = {language: asdict(asked)[judge] for language, asked in load_prompts(config.prompts).items()}
        settings["prompts"] = prompts
    return hashlib.sha256(json.dumps([judge, settings], sort_keys=True).encode()).hexdigest()[:16]
