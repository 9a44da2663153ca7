"""What the routes of `reelmill serve` share: the model, the service that draws, the gallery, bounds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from reelmill.errors import ConfigError
from reelmill.eval.generation import Studio
from reelmill.eval.generation.engine_thread import Service
from reelmill.eval.generation.presets import PRESETS, Preset
from reelmill.pipelines.serve.gallery import Gallery
from reelmill.pipelines.serve.uploads import Uploads
from reelmill.pipelines.web.errors import Refusal
from reelmill.tokenize.documents import grid_for_ratio

P = ParamSpec("P")
T = TypeVar("T")
PROMPT_TOKENS = 1024
"""Room beside pictures in a row of the cache, where --context does not say more."""
_SHARE = 0.2
_DESK = 8


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """`area`: the most pixels of a picture; `rows` sequences are drawn at a time, `queue` more may wait; `context`
    tokens a row (0: two pictures and 1,024 more); `keep` pictures stay in the gallery under `out`; `preset`: how
    it is drawn where nothing else is asked for; `compile`: see `Engine`."""

    area: int = 128 * 128
    rows: int = 16
    queue: int = 64
    context: int = 0
    keep: int = 500
    out: Path = Path("drawn")
    preset: Preset = PRESETS["none"]
    compile: bool = False

    def check(self) -> None:
        """Raise ConfigError for numbers that serve nobody."""
        for name, value, least in (
            ("rows", self.rows, 1),
            ("queue", self.queue, 1),
            ("context", self.context, 0),
            ("keep", self.keep, 0),
        ):
            if value < least:
                raise ConfigError(f"--{name} is {value}; it must be at least {least}")

    @property
    def capacity(self) -> int:
        """Tokens of a row of the cache."""
        h, w = grid_for_ratio("1:1", self.area)
        return self.context or 2 * (h * (w + 1) + 16) + PROMPT_TOKENS


class Eye:
    """The vision tokenizer's work, one thing at a time, so that the engine keeps most of the machine.

    What must be done waits for its turn (`look`). What is only nice to see (`glance`) is left out while there is
    something else, and for a while after, so that it takes at most `_SHARE` of the time. All of it is done in one
    thread: each thread that computes keeps memory of its own.
    """

    def __init__(self) -> None:
        self._busy = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "eye")
        self._next = 0.0

    @property
    def may_glance(self) -> bool:
        """Whether there is time for what is only nice to see."""
        return not self._busy.locked() and time.monotonic() >= self._next

    async def look(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """The work's result, in its turn."""
        async with self._busy:
            return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **named))

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    async def glance(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """The work's result; ask `may_glance` first."""
        began = time.monotonic()
        found = await self.look(work, *args, **named)
        ended = time.monotonic()
        self._next = ended + (ended - began) * (1 / _SHARE - 1)
        return found


@dataclass(frozen=True)
class Serving:
    """What a model needs that answers under `name`; no picture has more than `area` pixels."""

    studio: Studio
    service: Service
    gallery: Gallery
    uploads: Uploads
    name: str
    checkpoint: str
    area: int
    preset: Preset
    eye: Eye = field(default_factory=Eye)
    desk: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_DESK))
    """Held while a request is read and made ready: the bodies of all others stay with their clients."""
    began: int = field(default_factory=lambda: int(time.time()))

    def check_model(self, asked: str | None) -> None:
        """Raise Refusal where another model is asked for."""
        if asked not in (None, "", self.name):
            message = f"there is no model {asked[:100]!r} here; this server has {self.name!r}"
            raise Refusal(404, message, param="model", code="model_not_found")


@contextmanager
def opened(studio: Studio, name: str, checkpoint: str, config: ServeConfig) -> Iterator[Serving]:
    """Serve from a studio; all is ended with it."""
    config.check()
    uploads = Uploads()
    limits = {"rows": config.rows, "capacity": config.capacity, "queue": config.queue}
    service = Service(studio.model, studio.vocab, **limits, compile=config.compile)
    gallery = Gallery(config.out, config.keep)
    serving = Serving(studio, service, gallery, uploads, name, checkpoint, config.area, config.preset)
    try:
        yield serving
    finally:
        serving.eye.close()
        service.close()
        uploads.close()


def given(**settings: float | None) -> dict[str, Any]:
    """The settings that were asked for."""
    return {name: value for name, value in settings.items() if value is not None}
