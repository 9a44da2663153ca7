"""Manners towards one host: so many requests at a time, so many a second, and none while it wants to be left alone."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reelmill.curation.fetching.config import FetchConfig
from reelmill.curation.fetching.connections import Connect, Connections
from reelmill.curation.fetching.outcome import NotFetched

MAX_IDLE = 2048
"""Origins whose connections are kept while nothing is asked of them."""
DEAD_AFTER = 12
"""So many connections in a row that did not stand, and a host is not tried any more."""
KEEP_ALIVE_S = 15.0


class Host:
    """One origin: its connections, its pace, and how it has answered."""

    def __init__(self, origin: str, config: FetchConfig, connections: Connections) -> None:
        self.origin, self.connections = origin, connections
        self._step_s = 1.0 / config.host_rate if config.host_rate else 0.0
        self.users = 0
        self._config = config
        self._slots = asyncio.Semaphore(config.per_host)
        self._next = 0.0
        self._failed = self._busy = 0
        self._last_failure = ""

    @asynccontextmanager
    async def turn(self, step_s: float = 0.0) -> AsyncIterator[None]:
        """A request's turn, `step_s` after the one before or later.

        NotFetched at once where the host is dead, or wants to be left alone for too long.
        """
        async with self._slots:
            if self._failed >= DEAD_AFTER:
                reason = f"{self._last_failure} (not tried: {self._failed} connections before failed)"
                raise NotFetched(reason)
            now = time.monotonic()
            wait_s = max(self._next - now, 0.0)
            if wait_s > self._config.max_wait_s:
                raise NotFetched(f"busy: {self.origin} wants to be left alone for {wait_s:.0f} s more")
            self._next = max(self._next, now) + max(self._step_s, step_s)
            if wait_s:
                await asyncio.sleep(wait_s)
            yield

    def answered(self) -> None:
        """It answers."""
        self._failed = self._busy = 0

    def failed(self, failure: NotFetched) -> None:
        """No connection stood."""
        self._failed, self._last_failure = self._failed + 1, str(failure)

    def leave_alone(self, seconds: float | None) -> float:
        """It said that this was too much; asked again only after so long, or twice as long each time. Returns that."""
        wait_s = max(self._config.backoff_s * 2.0 ** min(self._busy, 10), seconds or 0.0)
        self._busy += 1
        self._next = max(self._next, time.monotonic() + wait_s)
        return wait_s


class Hosts:
    """All origins that were met, those not asked for longest forgotten."""

    def __init__(self, config: FetchConfig, connect: Connect) -> None:
        self._config, self._connect = config, connect
        self._hosts: OrderedDict[str, Host] = OrderedDict()

    @asynccontextmanager
    async def host(self, origin: str) -> AsyncIterator[Host]:
        """The host of an origin, which stays as long as somebody uses it."""
        host = self._hosts.get(origin)
        if host is None:
            host = self._hosts[origin] = Host(origin, self._config, Connections(self._connect))
        self._hosts.move_to_end(origin)
        host.users += 1
        try:
            yield host
        finally:
            host.users -= 1
            await self._forget_oldest()

    async def close(self) -> None:
        """Close all connections."""
        for host in self._hosts.values():
            await host.connections.close()

    async def _forget_oldest(self) -> None:
        while len(self._hosts) > MAX_IDLE:
            oldest = next((origin for origin, host in self._hosts.items() if not host.users), None)
            if oldest is None:
                return
            await self._hosts.pop(oldest).connections.close()
