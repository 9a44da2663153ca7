"""A model that is being served, with all that its endpoints share: engine, gallery, decoding of uploads, limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelmill.errors import ConfigError
from reelmill.eval.generation import Studio
from reelmill.eval.generation.cache_view import reads_pages
from reelmill.eval.generation.engine_thread import EngineThread
from reelmill.eval.generation.presets import PRESETS, Preset
from reelmill.eval.generation.shared_engine import Peers
from reelmill.pipelines.serve.abilities import PAGE_TASKS
from reelmill.pipelines.serve.gallery import Gallery
from reelmill.pipelines.serve.uploads import UploadDecoder
from reelmill.pipelines.serve.vision_worker import VisionWorker
from reelmill.pipelines.web.errors import HttpError
from reelmill.tokenize.documents import grid_for_ratio
from reelmill.train.provenance import Training

TEXT_TOKENS = 1024
"""Room for text in a row of the cache, beside two pictures, if --context-tokens does not say how long a row is."""
PAGE_PICTURES = 13
"""Pictures of a story of ten steps, and three references."""
WORLD_STEPS = 8
"""Movements through a world before its newest picture becomes the first one: those of a row of training data."""
PROMPT_TOKENS, MOVEMENT_TOKENS = 256, 32
"""Words of a world's question, and of each movement, as they are reckoned with: bytes at worst."""
_ADMITTED = 8


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How a model is served.

    `area`: the most pixels of a picture. `rows` sequences of `context_tokens` tokens decode at a time (0: two pictures
    and 1,024 tokens of text; of a model that has learned to write pages 13 pictures, but no more than it was trained
    on), and `queue` more may wait; of a cache in pages they hold at most `cache_tokens` together (0: all they can). The
    newest `gallery` pictures are kept under `out`. `preset`:
    the sampling of requests that do not state their own. `compile`: see `Engine`.
    """

    area: int = 128 * 128
    rows: int = 16
    queue: int = 64
    context_tokens: int = 0
    cache_tokens: int = 0
    gallery: int = 500
    out: Path = Path("drawn")
    preset: Preset = PRESETS["none"]
    compile: bool = False

    def check(self) -> None:
        """Raise ConfigError for numbers that are too small."""
        for name, value, least in (
            ("rows", self.rows, 1),
            ("queue", self.queue, 1),
            ("context-tokens", self.context_tokens, 0),
            ("cache-tokens", self.cache_tokens, 0),
            ("gallery", self.gallery, 0),
        ):
            if value < least:
                raise ConfigError(f"--{name} is {value}; it must be at least {least}")

    def capacity(self, studio: Studio, training: Training | None = None) -> int:
        """Tokens in a row of the cache."""
        picture = self.picture_tokens(studio)
        usual = 2 * picture + TEXT_TOKENS
        if training is not None and not {*PAGE_TASKS, "explore"}.isdisjoint(training.learned or ()):
            page = PAGE_PICTURES * picture + TEXT_TOKENS
            usual = max(usual, min(page, studio.context or page))
        return self.context_tokens or usual

    def picture_tokens(self, studio: Studio) -> int:
        """Tokens of a square picture, and some more for its header and the words at it."""
        h, w = grid_for_ratio("1:1", self.area, studio.vision.spatial, studio.vocab.layout)
        return h * (w + 1) + 16


@dataclass(frozen=True)
class ServedModel:
    """A model that clients know as `name`, loaded from `folder`. No picture has more than `area` pixels."""

    studio: Studio
    engine: EngineThread
    gallery: Gallery
    uploads: UploadDecoder
    name: str
    folder: str
    area: int
    preset: Preset
    training: Training | None = None
    world_steps: int = WORLD_STEPS
    """Movements through a world that a row of the cache has room for, at least one."""
    vision_worker: VisionWorker = field(default_factory=VisionWorker)
    admission: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_ADMITTED))
    """Held while a request is read and prepared. The bodies of all others stay with their clients."""
    created: int = field(default_factory=lambda: int(time.time()))

    def check_model(self, name: str | None) -> None:
        """Raise HttpError if a request names another model."""
        if name not in (None, "", self.name):
            message = f"there is no model {name[:100]!r} here; this server has {self.name!r}"
            raise HttpError(404, message, param="model", code="model_not_found")


@contextmanager
def served_model(
    studio: Studio,
    name: str,
    folder: str,
    config: ServeConfig,
    training: Training | None = None,
    peers: Peers | None = None,
) -> Iterator[ServedModel]:
    """Start all that serving a studio needs, and stop it at the end of the `with` block. `peers` share the model."""
    config.check()
    weight = studio.model.embed_tokens.weight
    if config.cache_tokens and not reads_pages(weight, studio.model.config.head_size, studio.model.backend):
        raise ConfigError(
            f"--cache-tokens is {config.cache_tokens:,}, and here a sequence owns a row of the cache: pages are for "
            "CUDA in 16 bits, with PyTorch after 2.11. Leave it out; --rows and --context-tokens say how much there is."
        )
    uploads = UploadDecoder()
    engine = EngineThread(
        studio.model,
        studio.vocab,
        rows=config.rows,
        capacity=config.capacity(studio, training),
        queue=config.queue,
        compile=config.compile,
        decoding=studio.decoding,
        peers=peers,
        cache_tokens=config.cache_tokens or None,
    )
    gallery = Gallery(config.out, config.gallery)
    room = (engine.capacity - PROMPT_TOKENS) // (config.picture_tokens(studio) + MOVEMENT_TOKENS) - 1
    served = ServedModel(
        studio, engine, gallery, uploads, name, folder, config.area, config.preset, training,
        world_steps=max(1, min(WORLD_STEPS, room)),
    )  # fmt: skip
    try:
        yield served
    finally:
        served.vision_worker.close()
        engine.close()
        uploads.close()


def given(**settings: float | str | None) -> dict[str, Any]:
    """The settings that a request states."""
    return {name: value for name, value in settings.items() if value is not None}
