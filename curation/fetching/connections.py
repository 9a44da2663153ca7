"""Connections to one origin: used again while they are kept alive, one request at a time, or many over HTTP/2.

httpcore's own pool looks at each of its connections whenever a request begins and ends; with 64 of them that is more
than half of what a picture costs. Here a request takes the connection that was given back last.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import httpcore2

from reelmill.curation.fetching.addresses import Address

Connect = Callable[[Address], httpcore2.AsyncHTTPConnection]
"""A new connection to an address's origin, which stands once a request is made on it."""


class Connections:
    """As many as there are requests at a time; whoever makes these bounds them."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._idle: list[httpcore2.AsyncHTTPConnection] = []
        self._shared: httpcore2.AsyncHTTPConnection | None = None  # over HTTP/2, or it may turn out to be

    async def respond(self, address: Address, request: httpcore2.Request) -> httpcore2.Response:
        """The answer to a request, its body not read yet; whoever gets it closes it. httpcore's errors pass."""
        while True:
            connection = await self._take(address)
            try:
                response = await connection.handle_async_request(request)
            except httpcore2.ConnectionNotAvailable:  # it turned out to be HTTP/1.1, and another request was first
                if connection is self._shared:
                    self._shared = None
                continue
            except BaseException:
                await self._give_back(connection)
                raise
            body = _Body(response, connection, self._give_back)
            return httpcore2.Response(response.status, headers=response.headers, content=body)

    async def close(self) -> None:
        """Close those that nobody uses."""
        for connection in [*self._idle, *([self._shared] if self._shared is not None else [])]:
            await connection.aclose()
        self._idle, self._shared = [], None

    async def _take(self, address: Address) -> httpcore2.AsyncHTTPConnection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        if self._shared is not None and self._shared.is_available() and not self._shared.has_expired():
            return self._shared
        connection = self._connect(address)
        if connection.is_available():
            self._shared = connection
        return connection

    async def _give_back(self, connection: httpcore2.AsyncHTTPConnection) -> None:
        if connection.can_multiplex():
            if connection is not self._shared and connection.is_idle():
                await connection.aclose()
            return
        if connection is self._shared:
            self._shared = None
        if connection.is_idle() and not connection.is_closed():
            self._idle.append(connection)
        elif not connection.is_closed():
            await connection.aclose()


class _Body:
    """A response's body, which gives its connection back once it is closed."""

    def __init__(
        self,
        response: httpcore2.Response,
        connection: httpcore2.AsyncHTTPConnection,
        give_back: Callable[[httpcore2.AsyncHTTPConnection], Awaitable[None]],
    ) -> None:
        self._response, self._connection, self._give_back = response, connection, give_back
        self._is_open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._response.aiter_stream():
            yield data

    async def aclose(self) -> None:
        if self._is_open:
            self._is_open = False
            try:
                await self._response.aclose()
            finally:
                await self._give_back(self._connection)
