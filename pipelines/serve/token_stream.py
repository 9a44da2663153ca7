"""Requests that run in the engine's thread, seen from the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from functools import partial

from reelmill.eval.generation.engine_thread import EngineThread, QueueFullError, StoppedError
from reelmill.eval.generation.request import PictureDraft, Request, SampledToken
from reelmill.pipelines.web.errors import HttpError


class TokenStream:
    """The tokens of requests as they are sampled: `read` returns them, `close` cancels the rest.

    With `drafts` the dict of that name has, by the index of its request, each picture that is being drawn in another
    order than that of its tokens.

    Raises HttpError: 429 with Retry-After if the queue is full, 503 if the server is stopping.
    """

    def __init__(self, engine: EngineThread, requests: Sequence[Request], *, drafts: bool = False) -> None:
        self._engine = engine
        self.drafts: dict[int, PictureDraft] = {}
        self._events: asyncio.Queue[tuple[int, SampledToken | PictureDraft | Exception]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        deliver = [partial(self._deliver, loop, index) for index in range(len(requests))]
        try:
            self._numbers = engine.submit(requests, deliver, drafts=drafts)
        except QueueFullError as full:
            raise HttpError(429, str(full), code="queue_full", retry_after=str(math.ceil(full.wait_s))) from full
        except StoppedError as stopped:
            raise HttpError(503, str(stopped), code="stopping", retry_after="10") from stopped

    async def read(self, timeout_s: float) -> list[tuple[int, SampledToken]]:
        """The new tokens, each with the index of its request: none after `timeout_s`, or where there are new drafts
        alone.

        Raises the error that ended a request before its last token.
        """
        try:
            events = [await asyncio.wait_for(self._events.get(), timeout_s)]
        except TimeoutError:
            return []
        while not self._events.empty():
            events.append(self._events.get_nowait())
        tokens = []
        for index, event in events:
            if isinstance(event, Exception):
                raise event
            if isinstance(event, PictureDraft):
                self.drafts[index] = event
            else:
                self.drafts.pop(index, None)  # its picture is complete
                tokens.append((index, event))
        return tokens

    @property
    def queue_position(self) -> int:
        """How many requests wait before the last of these."""
        return self._engine.queue_position(self._numbers[-1]) or 0

    def close(self) -> None:
        """Cancel what is not finished."""
        self._engine.cancel(self._numbers)

    def _deliver(
        self, loop: asyncio.AbstractEventLoop, index: int, event: SampledToken | PictureDraft | Exception
    ) -> None:
        """Called in the engine's thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and its clients are gone
            loop.call_soon_threadsafe(self._events.put_nowait, (index, event))
