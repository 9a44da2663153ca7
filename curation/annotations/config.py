"""A recipe's `[annotations]`: which models annotate narrated videos, what they are shown, how long answers may be."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from reelmill.config import at_least, free, identity
from reelmill.curation.annotations.prompts import load_prompts
from reelmill.curation.captions.config import CaptionConfig, EndpointConfig
from reelmill.errors import ConfigError


@dataclass
class AnnotationConfig:
    """Emu3.5's second stage (section 3.1.1): a language model divides the transcript and sums it up, a vision model
    captions scenes, a language model sums the whole up. Prompts and bounds are not disclosed; these are ours."""

    text: EndpointConfig = field(default_factory=EndpointConfig)
    """Endpoint of the language model, for segments and summaries (Emu3.5's is a Qwen3)."""
    vision: EndpointConfig = field(default_factory=EndpointConfig)
    """Endpoint of the vision model, for captions of scenes (Emu3.5's is Qwen2.5-VL-7B); without a model that of
    `text` is asked."""
    language: Literal["", "en", "zh"] = ""
    """Language of questions and answers; where it is empty Chinese for Chinese speech, English for all other."""
    prompts: str = ""
    """A TOML file of prompts; the shipped one when empty."""
    frames: int = 4
    """Key frames of a scene that are shown, at most, evenly spaced."""
    short_side: int = 384
    """Pixels of a key frame; the longer side is at most three times that. Never enlarged."""
    jpeg_quality: int = 90
    """Quality of the JPEG files that are sent, 1 to 95."""
    max_tokens: int = 2000
    """Longest answer."""
    temperature: float = 0.0
    """Randomness of the answers; 0 takes the likeliest token."""
    most_words: int = 120
    """Words of a segment's summary or a scene's caption, at most; two Chinese characters count as a word."""
    summary_words: int = 300
    """Words of the summary of the whole, at most."""
    batch: int = free(8)
    """Videos whose annotations are committed together: what a kill may cost."""

    def endpoint_of(self, kind: str) -> EndpointConfig:
        """The endpoint that is asked for annotations of this kind."""
        return self.vision if kind == "scene" and self.vision.model else self.text


def check(config: AnnotationConfig) -> None:
    """Raise ConfigError for models, addresses, prompts or numbers that cannot be used."""
    if not config.text.model:
        raise ConfigError("annotations.text.model is empty; name the model that sums up what is said")
    for name in ("text", "vision"):
        endpoint: EndpointConfig = getattr(config, name)
        if endpoint.model:
            CaptionConfig(endpoint=endpoint).source("endpoint").check(f"annotations.{name}")
    load_prompts(config.prompts)
    at_least("annotations", config, frames=1, short_side=16, max_tokens=1, most_words=1, summary_words=1, batch=1)


def fingerprint(config: AnnotationConfig) -> str:
    """What an answer depends on beside what is said and seen: models, settings and prompts; 16 hex digits."""
    prompts = {language: asdict(prompt) for language, prompt in load_prompts(config.prompts).items()}
    settings = {**identity(config), "prompts": prompts}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
