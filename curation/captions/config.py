"""A recipe's `[captions]`: where captions come from, which one is chosen, and how models are asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from reelmill.config import free, free_table, from_dict, nearest, read_toml
from reelmill.curation.captions.plain import CAPTIONERS
from reelmill.curation.pictures import PixelBounds
from reelmill.errors import ConfigError

MODEL_SOURCES = ("endpoint", "vllm", "checkpoint")
"""Sources that look at the picture; each row of theirs names its model."""

PROMPTS = Path(__file__).with_name("prompts.toml")


@dataclass
class CaptionFrames:
    """What a model sees of a sample. Emu3 section 2.1: 12 evenly spaced frames of a clip under 20 s, longer clips in
    pieces of 10 to 20 s, each captioned by itself."""

    frames: int = 12
    part_s: float = 20.0
    """Longest piece; a longer clip is divided into equal ones, whose captions are joined."""
    short_side: int = 384
    """Pixels; the longer side is at most three times that. Never enlarged."""
    jpeg_quality: int = 90


@dataclass
class EndpointConfig:
    """A chat endpoint that speaks OpenAI's API, such as `vllm serve`."""

    url: str = free("")
    """Up to and with the version: `http://127.0.0.1:8000/v1`."""
    model: str = ""
    api_key_env: str = free("REELMILL_API_KEY")
    """Environment variable with the key, sent as a bearer token where it is set."""
    concurrency: int = free(16)
    """Requests under way at a time, a worker."""
    connect_s: float = free(5.0)
    request_s: float = free(120.0)
    """Most seconds for one answer, from the first byte sent to the last received."""
    tries: int = free(4)
    backoff_s: float = free(1.0)
    """Wait before the second try, doubled before each further one, at most 60 s."""
    max_response_bytes: int = free(1 << 20)


@dataclass
class VllmConfig:
    """vLLM in the workers' own processes, on GPUs."""

    model: str = ""
    """A model's name or folder, as vLLM takes it."""
    gpus: int = free(1)
    """GPUs of one worker; more than one shards the model (tensor parallel)."""
    workers: int = free(1)
    max_model_len: int = free(16_384)
    gpu_memory: float = free(0.9)
    """Share of a GPU's memory that vLLM takes."""


@dataclass
class CheckpointConfig:
    """A captioner of one's own (recipe `captioner`), in the workers' own processes."""

    model: str = ""
    """A checkpoint folder, or a training run's."""
    tokenizer: str = free("")
    """Vision tokenizer that it was trained with, where that is no shipped one."""
    pictures: PixelBounds = free_table(PixelBounds)
    """Of a frame; what `reelmill chat import` was told for the pairs."""
    rows: int = free(16)
    """Samples that are captioned at a time."""
    workers: int = free(1)
    gpus: float = free(0.0)
    """Share of a GPU for one worker; 0 leaves the GPUs alone."""


@dataclass
class CaptionConfig:
    """Sources, the choice between their captions, and how models are asked."""

    sources: list[str] = field(default_factory=lambda: ["sidecar", "facts"])
    """Each gives a row a sample: sidecar, facts, endpoint, vllm, checkpoint."""
    prefer: list[str] = field(default_factory=lambda: ["vllm", "endpoint", "checkpoint", "sidecar", "facts"])
    """The first with a caption that has no problem is the sample's caption; a source not named here is never chosen."""
    languages: list[str] = field(default_factory=lambda: ["en", "zh"])
    """Languages of good captions, of en, zh and other; an empty list takes all."""
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
    batch: int = free(64)
    """Samples whose captions are committed together: what a kill may cost."""
    frames: CaptionFrames = field(default_factory=CaptionFrames)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    vllm: VllmConfig = field(default_factory=VllmConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def model_of(self, source: str) -> str | None:
        """The model that a source's rows name; None for a source without one."""
        models = {"endpoint": self.endpoint.model, "vllm": self.vllm.model, "checkpoint": self.checkpoint.model}
        return models.get(source)

    def asked(self) -> list[tuple[str, str]]:
        """Source and model of each model source of the recipe."""
        return [(source, self.model_of(source) or "") for source in self.sources if source in MODEL_SOURCES]


@dataclass
class Prompts:
    """The words of one language."""

    image: str
    content: str
    motion: str

    def words(self, kind: str) -> str:
        """What a model is asked about a sample of this kind."""
        return self.image if kind == "image" else f"{self.content} {self.motion}"


def load_prompts(file: str = "") -> dict[str, Prompts]:
    """Prompts by language, from a TOML file or the shipped one. Raises ConfigError."""
    tables = read_toml(Path(file) if file else PROMPTS)
    loaded = {language: from_dict(Prompts, table, language) for language, table in tables.items()}
    return {language: Prompts(p.image.strip(), p.content.strip(), p.motion.strip()) for language, p in loaded.items()}


def prompt_language(sample_id: str, languages: Sequence[str]) -> str:
    """The language to ask in, drawn by a hash of the sample's id."""
    digest = hashlib.sha256(f"prompt|{sample_id}".encode()).digest()
    return languages[int.from_bytes(digest[:8], "big") % len(languages)]


def check(config: CaptionConfig) -> None:
    """Raise ConfigError for sources, models, addresses, prompts or numbers that cannot be used."""
    known = {*CAPTIONERS, *MODEL_SOURCES}
    for key, names, allowed in (
        ("sources", config.sources, known),
        ("prefer", config.prefer, known),
        ("languages", config.languages, {"en", "zh", "other"}),
        ("prompt_languages", config.prompt_languages, set(load_prompts(config.prompts))),
    ):
        for name in names:
            if name not in allowed:
                raise ConfigError(f"captions.{key}: unknown {name!r}; {nearest(name, allowed)}")
    for key, names in (("prefer", config.prefer), ("prompt_languages", config.prompt_languages)):
        if not names:
            raise ConfigError(f"captions.{key} is empty; it must name at least one")
    for source, model in config.asked():
        if not model:
            raise ConfigError(f"captions.{source}.model is empty; name the model whose captions these are")
    if "endpoint" in config.sources:
        _check_url(config.endpoint.url)
    frames, endpoint = config.frames, config.endpoint
    for key, value, least in (
        ("frames.frames", frames.frames, 1),
        ("frames.part_s", frames.part_s, 1),
        ("frames.short_side", frames.short_side, 16),
        ("batch", config.batch, 1),
        ("max_tokens", config.max_tokens, 1),
        ("endpoint.concurrency", endpoint.concurrency, 1),
        ("endpoint.tries", endpoint.tries, 1),
        ("vllm.workers", config.vllm.workers, 1),
        ("checkpoint.workers", config.checkpoint.workers, 1),
        ("checkpoint.rows", config.checkpoint.rows, 1),
        ("checkpoint.pictures.least", config.checkpoint.pictures.least, 1),
        ("checkpoint.pictures.most", config.checkpoint.pictures.most, config.checkpoint.pictures.least),
    ):
        if value < least:
            raise ConfigError(f"captions.{key} is {value:g}; it must be at least {least}")


def _check_url(url: str) -> None:
    """Any http(s) address may be the operator's own, this machine's included; nothing else is one."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        example = "http://127.0.0.1:8000/v1"
        raise ConfigError(f"captions.endpoint.url is {url!r}; it must be an http or https address such as {example}")
    if parts.username or parts.password:
        raise ConfigError("captions.endpoint.url holds a password; put the key into the variable of api_key_env")
