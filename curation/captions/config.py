"""A recipe's `[captions]`: the caption sources by name, the options of each, and the choice between their captions.

A source of reelmill's own is a line in `CAPTION_SOURCES` and, where it has options, a table of `CaptionConfig` under
its name. A table of another name is a source of one's own, whose `use` names the class. Reading a recipe imports none
of these classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from reelmill.config import PLUGIN_TABLES, at_least, free, free_table, from_dict, nearest
from reelmill.curation.captions.contract import Captioner, CaptionSource, ModelCaptioner
from reelmill.curation.captions.measures import MEASURES
from reelmill.curation.captions.prompts import load_prompts
from reelmill.curation.pictures import PixelBounds
from reelmill.errors import ConfigError
from reelmill.registry import find_class

CAPTION_SOURCES: dict[str, str] = {
    "sidecar": "reelmill.curation.captions.plain:SidecarCaptioner",
    "facts": "reelmill.curation.captions.plain:FactsCaptioner",
    "endpoint": "reelmill.curation.captions.endpoint:EndpointCaptioner",
    "vllm": "reelmill.curation.captions.vllm:VllmCaptioner",
    "checkpoint": "reelmill.pipelines.curate.checkpoint_captioner:CheckpointCaptioner",
}
LANGUAGES = ("en", "zh", "other")


@dataclass
class CaptionBound:
    """What a measured column of good captions may be."""

    min: float | None = None
    """Least value; no bound where it is not set."""
    max: float | None = None
    """Greatest value; no bound where it is not set."""

    def beyond_sql(self, column: str) -> str:
        """True of a value out of bounds; a value that is not known passes."""
        sides = [f"{column} {sign} {side!r}" for sign, side in (("<", self.min), (">", self.max)) if side is not None]
        return f"({' OR '.join(sides)})"


@dataclass
class CaptionFrames:
    """What a model sees of a sample. Emu3 section 2.1: 12 evenly spaced frames of a clip under 20 s, longer clips in
    pieces of 10 to 20 s, each captioned by itself."""

    frames: int = 12
    """Frames of a piece."""
    part_s: float = 20.0
    """Longest piece; a longer clip is divided into equal ones, whose captions are joined."""
    short_side: int = 384
    """Pixels; the longer side is at most three times that. Never enlarged."""
    jpeg_quality: int = 90
    """Quality of the JPEG files that are sent, 1 to 95."""


@dataclass
class EndpointConfig:
    """A chat endpoint that speaks OpenAI's API, such as `vllm serve`."""

    url: str = free("")
    """Up to and with the version: `http://127.0.0.1:8000/v1`."""
    model: str = ""
    """The model to ask, as the endpoint names it."""
    api_key_env: str = free("REELMILL_API_KEY")
    """Environment variable with the key, sent as a bearer token where it is set."""
    concurrency: int = free(16)
    """Requests under way at a time, a worker."""
    connect_s: float = free(5.0)
    """Most seconds to connect."""
    request_s: float = free(120.0)
    """Most seconds for one answer, from the first byte sent to the last received."""
    tries: int = free(4)
    """How often a request is tried."""
    backoff_s: float = free(1.0)
    """Wait before the second try, doubled before each further one, at most 60 s."""
    max_response_bytes: int = free(1 << 20)
    """Bytes of an answer, at most."""


@dataclass
class VllmConfig:
    """vLLM in the workers' own processes, on GPUs."""

    model: str = ""
    """A model's name or folder, as vLLM takes it."""
    gpus: int = free(1)
    """GPUs of one worker; more than one shards the model (tensor parallel)."""
    workers: int = free(1)
    """Workers, each with a model of its own."""
    max_model_len: int = free(16_384)
    """Tokens of prompt and answer together, at most."""
    gpu_memory: float = free(0.9)
    """Share of a GPU's memory that vLLM takes."""


@dataclass
class CheckpointConfig:
    """A captioner of one's own (recipe `captioner`), in the workers' own processes."""

    model: str = ""
    """A training run, a checkpoint, or a Hugging Face folder."""
    tokenizer: str = free("")
    """Vision tokenizer that it was trained with, where that is no shipped one."""
    pictures: PixelBounds = free_table(PixelBounds)
    """Of a frame; what `reelmill chat import` was told for the pairs."""
    rows: int = free(16)
    """Samples that are captioned at a time."""
    workers: int = free(1)
    """Workers, each with a model of its own."""
    gpus: float = free(0.0)
    """Share of a GPU for one worker; 0 leaves the GPUs alone."""


@dataclass
class CaptionConfig:
    """Sources, the choice between their captions, and how models are asked."""

    sources: list[str] = field(default_factory=lambda: ["sidecar", "facts"])
    """Each gives a row per sample: sidecar, facts, endpoint, vllm, checkpoint, `package.module:Class`, or the
    name of a table `[captions.NAME]` whose `use` is such a class or one of ours."""
    prefer: list[str] = field(default_factory=lambda: ["vllm", "endpoint", "checkpoint", "sidecar", "facts"])
    """The first with a caption that has no problem is the sample's caption; a source not named here is never chosen."""
    languages: list[str] = field(default_factory=lambda: ["en", "zh"])
    """Languages of good captions, of en, zh and other; an empty list takes all."""
    bounds: dict[str, CaptionBound] = field(default_factory=dict)
    """Of good captions, by column of `captions`: words, distinct_words, repeated_trigrams, alt_overlap."""
    wait: bool = free(True)
    """A sample whose model failed to answer is not tokenized before a rerun has asked again; false: the next good
    caption does, and a rerun that gets the answer tokenizes the sample again."""
    prompts: str = ""
    """A TOML file of prompts; the shipped one when empty."""
    prompt_languages: list[str] = field(default_factory=lambda: ["en"])
    """Languages to ask in; with several a hash of sample_id draws one for each sample."""
    max_tokens: int = 400
    """Longest answer; one that is cut off keeps its whole sentences."""
    temperature: float = 0.0
    """Randomness of the answers; 0 takes the likeliest token."""
    batch: int = free(64)
    """Samples whose captions are committed together: what a kill may cost."""
    frames: CaptionFrames = field(default_factory=CaptionFrames)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    vllm: VllmConfig = field(default_factory=VllmConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    custom: dict[str, dict[str, Any]] = field(default_factory=dict, metadata=PLUGIN_TABLES)
    """All other tables: sources of one's own, by name."""

    def model_of(self, source: str) -> str:
        """The model that a source's rows name; empty for a source without one."""
        own = self._own(source)
        return str(own.model if own else self.custom.get(source, {}).get("model", ""))

    def requested(self) -> list[tuple[str, str]]:
        """Source and model of each source of the recipe that asks one."""
        return [(source, model) for source in self.sources if (model := self.model_of(source))]

    def source(self, name: str) -> CaptionSource:
        """A source with its options. ConfigError when there is none of this name, or an option is wrong."""
        options = dict(self.custom.get(name, {}))
        target = str(options.pop("use", name))
        cls = find_class("caption source", target, CAPTION_SOURCES, CaptionSource)
        return cls(self._own(name) or from_dict(cls.Config, options, f"captions.{name}"))

    def _own(self, source: str) -> EndpointConfig | VllmConfig | CheckpointConfig | None:
        """The typed table of a source of ours that has one."""
        return getattr(self, source, None) if source in CAPTION_SOURCES else None


def check(config: CaptionConfig) -> None:
    """Raise ConfigError for sources, models, options, prompts or numbers that cannot be used."""
    known = {*CAPTION_SOURCES, *config.custom, *(name for name in config.sources if ":" in name)}
    for name, table in config.custom.items():
        if name in CAPTION_SOURCES:
            raise ConfigError(f"captions.{name}: {name} is a source of reelmill's own; give yours another name")
        if "use" not in table and ":" not in name:
            keys = {*CAPTION_SOURCES, *(field.name for field in fields(config))} - {"custom"}
            raise ConfigError(
                f"unknown table captions.{name}; {nearest(name, keys)}. A source of one's own states its class as `use`"
            )
    _check_names("sources", config.sources, known)
    _check_names("prefer", config.prefer, known)
    _check_names("languages", config.languages, LANGUAGES)
    _check_names("prompt_languages", config.prompt_languages, load_prompts(config.prompts))
    _check_names("bounds", config.bounds, MEASURES)
    for name, bound in config.bounds.items():
        sides = [side for side in (bound.min, bound.max) if side is not None]
        if not sides or not all(map(math.isfinite, sides)) or sides != sorted(sides):
            raise ConfigError(f"captions.bounds.{name} keeps nothing or all: give min, max or both, min the smaller")
    for key, names in (("prefer", config.prefer), ("prompt_languages", config.prompt_languages)):
        if not names:
            raise ConfigError(f"captions.{key} is empty; it must name at least one")
    at_least("captions", config, batch=1, max_tokens=1)
    at_least("captions.frames", config.frames, frames=1, part_s=1, short_side=16)
    for name in config.sources:
        source, place = config.source(name), f"captions.{name}"
        if not isinstance(source, Captioner | ModelCaptioner):
            raise ConfigError(
                f"caption source {name!r} is neither a Captioner nor a ModelCaptioner; derive it from one"
            )
        if isinstance(source, ModelCaptioner) and not config.model_of(name):
            raise ConfigError(f"{place}.model is empty; name the model whose captions these are")
        source.check(place)


def _check_names(key: str, names: Iterable[str], allowed: Iterable[str]) -> None:
    for name in names:
        if name not in allowed:
            raise ConfigError(f"captions.{key}: unknown {name!r}; {nearest(name, allowed)}")
