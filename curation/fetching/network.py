"""Connections to addresses that were checked: a name is looked up once, and what it gave is what is connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections import OrderedDict
from collections.abc import Iterable

import httpcore2

from reelmill.curation.fetching.addresses import Ip, why_not
from reelmill.curation.fetching.outcome import NotFetched, refused
from reelmill.errors import brief

DNS_S, NO_NAME_S = 600.0, 60.0
"""How long the addresses of a name are kept, and the news that there is no such name."""
MAX_NAMES = 100_000
TRIED = 4
"""Addresses of one name that are tried."""


class Names:
    """The addresses of hosts, looked up once while they are kept; whoever asks meanwhile waits for the same answer."""

    def __init__(self, *, allow_private: bool, seconds: float) -> None:
        self._allow_private, self._seconds = allow_private, seconds
        self._known: OrderedDict[str, tuple[float, list[str] | NotFetched]] = OrderedDict()
        self._asked: dict[str, asyncio.Task[list[str]]] = {}

    async def addresses(self, host: str) -> list[str]:
        """Addresses of a host that may be connected to. NotFetched where there are none.

        A name with a private address among its addresses is refused whole.
        """
        kept = self._known.get(host)
        if kept is not None and kept[0] > time.monotonic():
            if isinstance(kept[1], NotFetched):
                raise kept[1].with_traceback(None)
            return kept[1]
        if host not in self._asked:
            self._asked[host] = asyncio.ensure_future(self._look_up(host))
            self._asked[host].add_done_callback(lambda task: self._done(host, task))
        return await asyncio.shield(self._asked[host])

    def _done(self, host: str, task: asyncio.Task[list[str]]) -> None:
        del self._asked[host]
        if not task.cancelled():
            task.exception()  # whoever asked has it; nobody may have waited for it

    async def _look_up(self, host: str) -> list[str]:
        try:
            found = await self._checked(host)
        except NotFetched as failure:
            if not failure.is_transient:
                self._keep(host, failure, NO_NAME_S)
            raise
        self._keep(host, found, DNS_S)
        return found

    async def _checked(self, host: str) -> list[str]:
        found = await self._resolved(host)
        for ip in found:
            if not self._allow_private and (why := why_not(ip)):
                raise refused(f"private_address: {host} is at {ip}, which is {why}")
        return [str(ip) for ip in found[:TRIED]]

    async def _resolved(self, host: str) -> list[Ip]:
        try:
            async with asyncio.timeout(self._seconds):
                entries = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise NotFetched(f"dns: no answer for {host} within {self._seconds:g} s", is_transient=True) from None
        except (OSError, UnicodeError) as error:
            again = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
            raise NotFetched(f"dns: {host}: {brief(error)}", is_transient=again) from None
        texts = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in entries)
        return [ipaddress.ip_address(text) for text in texts]

    def _keep(self, host: str, found: list[str] | NotFetched, seconds: float) -> None:
        self._known[host] = (time.monotonic() + seconds, found)
        self._known.move_to_end(host)
        while len(self._known) > MAX_NAMES:
            self._known.popitem(last=False)


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """What httpcore connects through. Every connection is made here, so that none goes to an address unchecked."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to the first of the host's addresses that answers."""
        addresses = await self._names.addresses(host)
        for number, address in enumerate(addresses, 1):
            try:
                return await self._network.connect_tcp(
                    address, port, timeout and timeout / len(addresses), local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if number == len(addresses):
                    raise
        raise NotFetched(f"dns: {host} has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Never: an address is a host's."""
        raise refused("scheme: sockets of this machine are not fetched from")

    async def sleep(self, seconds: float) -> None:
        """As the network beneath."""
        await self._network.sleep(seconds)
