"""The vision tokenizer's work while a model is served, one thing at a time: the engine keeps most of the machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
TIME_SHARE = 0.2
"""Optional work takes at most this share of the time."""


class VisionWorker:
    """Runs functions in a thread, one at a time: each thread that computes keeps memory of its own.

    Required work waits for its turn (`run`). Optional work (`run_if_idle`) is skipped while there is other work, and
    for a while after optional work, which takes at most TIME_SHARE of the time. `close` it.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "vision")
        self._idle_from = 0.0

    async def run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """The result of required work."""
        async with self._lock:
            return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **named))

    async def run_if_idle(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T | None:
        """The result of optional work, or None if there is no time for it now."""
        if self._lock.locked() or time.monotonic() < self._idle_from:
            return None
        start = time.monotonic()
        result = await self.run(work, *args, **named)
        end = time.monotonic()
        self._idle_from = end + (end - start) * (1 / TIME_SHARE - 1)
        return result

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()
