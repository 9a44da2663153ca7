"""Server-sent events, and work that ends when its client leaves."""

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
"""The data of an event (its "type", where it has one, is the event's name), or a text as it is, such as "[DONE]"."""

log = logging.getLogger(__name__)


def comment(data: dict[str, Any]) -> str:
    """A line that clients of OpenAI's API pass over, for those who want to know how it goes."""
    return f": {json.dumps(data)}\n\n"


class EventStream(StreamingResponse):
    """Events as they come. An error ends them, as an event in the shape of an error's body; `closed` is called last.

    Where the client leaves, `events` are closed.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[Event], closed: Callable[[], None]) -> None:
        super().__init__(_written(events))
        self._closed = closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        try:
            async with aclosing(self.body_iterator):  # type: ignore[type-var]  # it is a generator
                await super().__call__(scope, receive, send)
        finally:
            self._closed()


async def _written(events: AsyncIterator[Event]) -> AsyncIterator[str]:
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


async def unless_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result. Where the client leaves before, the work is cancelled and ClientDisconnect raised."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
