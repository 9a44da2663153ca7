"""Requests at the drawing service, seen from the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from functools import partial

from reelmill.eval.generation.engine_thread import Closed, QueueFull, Service
from reelmill.eval.generation.request import Request, SampledToken
from reelmill.pipelines.web.errors import Refusal


class Ticket:
    """Requests that are drawn: `some` gives their tokens as they come, `close` gives up what is left.

    Raises Refusal, 429 with Retry-After, where too many wait already, and 503 where the server stops.
    """

    def __init__(self, service: Service, requests: Sequence[Request]) -> None:
        self._service = service
        self._events: asyncio.Queue[tuple[int, SampledToken | Exception]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        deliver = [partial(self._deliver, loop, index) for index in range(len(requests))]
        try:
            self._numbers = service.submit(requests, deliver)
        except QueueFull as full:
            raise Refusal(429, str(full), code="queue_full", retry_after=str(math.ceil(full.wait_s))) from full
        except Closed as closed:
            raise Refusal(503, str(closed), code="stopping", retry_after="10") from closed

    async def some(self, timeout_s: float) -> list[tuple[int, SampledToken]]:
        """The tokens that have come, each with its request's place, at least one; none after `timeout_s`.

        Raises what ended a request before its last token.
        """
        try:
            events = [await asyncio.wait_for(self._events.get(), timeout_s)]
        except TimeoutError:
            return []
        while not self._events.empty():
            events.append(self._events.get_nowait())
        found = []
        for index, event in events:
            if isinstance(event, Exception):
                raise event
            found.append((index, event))
        return found

    @property
    def before(self) -> int:
        """How many requests wait before the last of these."""
        return self._service.before(self._numbers[-1]) or 0

    def close(self) -> None:
        """Give up what is not drawn yet."""
        self._service.cancel(self._numbers)

    def _deliver(self, loop: asyncio.AbstractEventLoop, index: int, event: SampledToken | Exception) -> None:
        """In the service's thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it who asked
            loop.call_soon_threadsafe(self._events.put_nowait, (index, event))
