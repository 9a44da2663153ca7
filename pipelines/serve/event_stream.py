"""Server-sent events, and work that is canceled when its client disconnects."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from reelmill.errors import ReelmillError
from reelmill.pipelines.web.errors import error_body

T = TypeVar("T")
Event = dict[str, Any] | str
"""The data of an event, whose "type" is the name of the event, or text that is sent as it is, such as "[DONE]"."""

log = logging.getLogger(__name__)


def comment(data: dict[str, Any]) -> str:
    """A comment: clients of OpenAI's API skip it, others can read the progress from it."""
    return f": {json.dumps(data)}\n\n"


class EventStream(StreamingResponse):
    """Sends events as they come. An error ends the stream, as an event with the body of an error response.

    If the client disconnects, `events` is closed. `on_close` is called at the end in any case.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[Event], on_close: Callable[[], None]) -> None:
        super().__init__(_encoded(events))
        self._on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            async with aclosing(self.body_iterator):  # type: ignore[type-var]  # a generator
                await super().__call__(scope, receive, send)
        finally:
            self._on_close()


async def _encoded(events: AsyncIterator[Event]) -> AsyncIterator[str]:
    try:
        async for event in events:
            if isinstance(event, str):
                yield event if event.startswith(":") else f"data: {event}\n\n"
            else:
                name = f"event: {event['type']}\n" if "type" in event else ""
                yield f"{name}data: {json.dumps(event, separators=(',', ':'))}\n\n"
    except (HTTPException, ReelmillError) as error:
        yield f"event: error\ndata: {json.dumps(error_body(error))}\n\n"
    except Exception as error:
        log.exception("a stream failed")
        yield f"event: error\ndata: {json.dumps(error_body(error))}\n\n"


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work. If the client disconnects first, the work is canceled and ClientDisconnect raised."""
    working, disconnecting = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((working, disconnecting), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        disconnecting.cancel()
        await asyncio.gather(working, disconnecting, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
