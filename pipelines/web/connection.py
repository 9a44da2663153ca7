"""Bounds on connections, so that no number of silent clients keeps others out.

uvicorn counts idle connections against its limit, and gives the head of a request any time. Here the longest idle
connection is closed when there are too many, and a request has to state its headers within HEADER_S.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 512
"""Open connections. Each takes a file descriptor, of which a process often has 1,024."""
HEADER_S = 20.0
"""How long the headers of a request may take, from the start of a connection or from the first byte."""


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP connection with a deadline for headers. The longest idle one makes room for a new one."""

    _deadline: asyncio.TimerHandle | None = None
    _idle_since = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no request is being served."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close the longest idle connection if there are too many."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._start_deadline()
        connections = [one for one in self.connections if isinstance(one, BoundedConnection) and one.is_open]
        if len(connections) > MAX_CONNECTIONS:  # this one is idle too, so that there always is one
            min((one for one in connections if one.is_idle), key=lambda one: one._idle_since).transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._stop_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start the deadline at the first byte of a request, and stop it when all headers are there."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_deadline()
        elif self._deadline is None:
            self._start_deadline()

    def on_response_complete(self) -> None:
        """The connection is idle from now on."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    @property
    def is_open(self) -> bool:
        """Whether it is not about to close."""
        return not self.transport.is_closing()

    def _start_deadline(self) -> None:
        self._deadline = self.loop.call_later(HEADER_S, self.transport.close)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
