"""`/.well-known/tdmrep.json`: what an origin reserves of text and data mining (W3C's TDM Reservation Protocol, 2024).

Asked once for each origin, kept while it is used. It is a list of rules, of which the first that fits a path counts:

    [{"location": "/images/*", "tdm-reservation": 1, "tdm-policy": "https://provider.example/policies/policy.json"}]
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from urllib.parse import urlsplit

from reelmill.curation.fetching.addresses import Address, address_of
from reelmill.curation.fetching.outcome import refused
from reelmill.curation.fetching.robots import MAX_BYTES, MAX_ORIGINS, Get

FILE = "/.well-known/tdmrep.json"
MAX_RULES = 10_000

Rule = tuple[str, bool]
"""A pattern of paths, and whether what fits it is reserved."""


class Reservations:
    """What all origins that were met reserve, those not asked for longest forgotten."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self._rules: OrderedDict[str, asyncio.Task[list[Rule]]] = OrderedDict()

    async def check(self, address: Address) -> None:
        """Raise NotFetched for what is reserved, and where the origin cannot be connected to."""
        task = self._rules.get(address.origin)
        if task is None:
            task = self._rules[address.origin] = asyncio.ensure_future(self._read(address.origin))
            task.add_done_callback(lambda done: self._settle(address.origin, done))
        self._rules.move_to_end(address.origin)
        path = urlsplit(address.target).path
        for pattern, is_reserved in await asyncio.shield(task):
            if fits(pattern, path):
                if is_reserved:
                    raise refused(f"opted_out: {address.origin}{FILE} reserves {pattern}")
                return

    def _settle(self, origin: str, task: asyncio.Task[list[Rule]]) -> None:
        """Keep what was found; an origin that could not be asked is asked again."""
        if (task.cancelled() or task.exception() is not None) and self._rules.get(origin) is task:
            del self._rules[origin]
        while len(self._rules) > MAX_ORIGINS:
            self._rules.popitem(last=False)

    async def _read(self, origin: str) -> list[Rule]:
        """Nothing is reserved by a file that is not there, or that is no list of rules."""
        status, data = await self._get(address_of(f"{origin}{FILE}"))
        return rules_of(data) if status == 200 and len(data) < MAX_BYTES else []


def rules_of(data: bytes) -> list[Rule]:
    """The rules of a file, in their order; none where it is no such file."""
    try:
        listed = json.loads(data)
    except (ValueError, RecursionError):
        return []
    entries = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return [
        (one["location"], str(one["tdm-reservation"]).strip() == "1")
        for one in entries[:MAX_RULES]
        if isinstance(one.get("location"), str) and "tdm-reservation" in one
    ]


def fits(pattern: str, path: str) -> bool:
    """Whether a path begins as a pattern says: `*` is anything, `$` at its end the end (as in robots.txt, RFC 9309)."""
    first, *rest = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at, end = len(first), len(path)
    if pattern.endswith("$"):
        if not rest:
            return path == first
        last = rest.pop()
        if not path.endswith(last):
            return False
        end -= len(last)
    for part in rest:
        found = path.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return at <= end
