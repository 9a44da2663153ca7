"""robots.txt (RFC 9309), read by protego: asked once for each origin, kept while it is used."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from protego import Protego

from reelmill.curation.fetching.addresses import Address, address_of
from reelmill.curation.fetching.outcome import NotFetched, refused

MAX_BYTES = 512 * 1024
"""RFC 9309, section 2.5: at least 500 KiB must be read."""
MAX_ORIGINS = 4096
MAX_STARS = 5
"""Wildcards of a rule. Matching takes time to the power of them; what follows the last one is left out."""
MAX_DELAY_S = 60.0
"""The longest `Crawl-delay` that is kept to."""

Get = Callable[[Address], Awaitable[tuple[int, bytes]]]
"""Fetches a small text: its status and its first MAX_BYTES."""


class Rules:
    """What an origin allows: all, nothing (why), or what its file says."""

    def __init__(self, text: str | None = None, closed: str = "") -> None:
        self._parsed = Protego.parse(text) if text is not None else None
        self._closed = closed

    def check(self, address: Address, program: str) -> None:
        """Raise NotFetched for what is not allowed."""
        if self._closed:
            raise NotFetched(f"robots: {self._closed}", "refused", is_transient=True)
        if self._parsed is not None and not self._parsed.can_fetch(address.url, program):
            raise refused(f"robots: {address.origin}/robots.txt does not allow it")

    def delay_s(self, program: str) -> float:
        """Seconds between two requests that the file asks for."""
        asked = self._parsed.crawl_delay(program) if self._parsed is not None else None
        return min(float(asked or 0.0), MAX_DELAY_S)


class Robots:
    """The rules of all origins that were met, those not asked for longest forgotten."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self._rules: OrderedDict[str, asyncio.Task[Rules]] = OrderedDict()

    async def rules(self, address: Address) -> Rules:
        """The rules of an address's origin. NotFetched where it cannot be connected to."""
        task = self._rules.get(address.origin)
        if task is None:
            task = self._rules[address.origin] = asyncio.ensure_future(self._read(address.origin))
            task.add_done_callback(lambda done: self._settle(address.origin, done))
        self._rules.move_to_end(address.origin)
        return await asyncio.shield(task)

    def _settle(self, origin: str, task: asyncio.Task[Rules]) -> None:
        """Keep what was found; an origin that could not be asked is asked again."""
        if (task.cancelled() or task.exception() is not None) and self._rules.get(origin) is task:
            del self._rules[origin]
        while len(self._rules) > MAX_ORIGINS:
            self._rules.popitem(last=False)

    async def _read(self, origin: str) -> Rules:
        """RFC 9309, section 2.3.1: without a file all is allowed, while it cannot be had nothing is."""
        status, data = await self._get(address_of(f"{origin}/robots.txt"))
        if 200 <= status < 300:
            return Rules(_bounded(data.decode("utf-8-sig", "replace")))
        if 300 <= status < 500 and status != 429:
            return Rules()
        return Rules(closed=f"{origin}/robots.txt cannot be had, status {status}")


def _bounded(text: str) -> str:
    """The file with the paths of its rules cut after MAX_STARS wildcards."""
    lines = text.replace("\0", "").splitlines()
    return "\n".join(line if line.count("*") <= MAX_STARS else _cut(line) for line in lines)


def _cut(line: str) -> str:
    parts = line.split("*")
    return "*".join(parts[: MAX_STARS + 1]) + "*"
