"""One address after another, many at a time: what it gives, or why it gives nothing."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

import httpcore2

from reelmill.curation.fetching.addresses import Address, address_of, redirected
from reelmill.curation.fetching.command import Command
from reelmill.curation.fetching.config import MIB, FetchConfig
from reelmill.curation.fetching.headers import check_wishes, retry_after, said_by, value_of
from reelmill.curation.fetching.hosts import KEEP_ALIVE_S, Host, Hosts
from reelmill.curation.fetching.network import CheckedNetwork, Names
from reelmill.curation.fetching.outcome import Body, Fetched, NotFetched, Said, Wanted, refused
from reelmill.curation.fetching.reservations import Reservations
from reelmill.curation.fetching.robots import MAX_BYTES, Robots
from reelmill.errors import brief
from reelmill.media.containers import HEAD
from reelmill.media.kinds import described, suffix_of

TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
TOO_MUCH = {429, 503}
REDIRECTS = {301, 302, 303, 307, 308}
_STATUSES = {int(status) for status in HTTPStatus}
_TOO_SLOW = "timeout"


class Client:
    """Fetches addresses within the bounds of a recipe. An asynchronous context manager; `fetch` is called concurrently.

    Bodies lie in memory or in files without a name in `folder`; whoever gets one closes it.
    """

    def __init__(self, config: FetchConfig, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._program = config.user_agent.partition("/")[0].strip()
        self._names = Names(allow_private=config.allow_private, seconds=config.connect_s)
        network = CheckedNetwork(self._names)
        tls = ssl.create_default_context()

        def connect(address: Address) -> httpcore2.AsyncHTTPConnection:
            return httpcore2.AsyncHTTPConnection(
                httpcore2.Origin(address.scheme.encode(), address.host.encode(), address.port),
                ssl_context=tls,
                keepalive_expiry=KEEP_ALIVE_S,
                http2=True,
                network_backend=network,
            )

        self._hosts = Hosts(config, connect)
        self._robots = Robots(self._small_text)
        self._reservations = Reservations(self._small_text)
        self._slots = asyncio.Semaphore(config.total)
        self._command = Command(config, folder) if config.command else None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._hosts.close()

    async def fetch(self, wanted: Wanted) -> Fetched:
        """What became of an address. Never raises for what an address or its host may do."""
        began = time.monotonic()
        said, attempt = Said(), 0
        while True:
            attempt += 1
            try:
                found = await self._attempt(wanted, said)
            except NotFetched as failure:
                wait_s = self._wait_s(failure, attempt)
                if wait_s is not None:
                    await asyncio.sleep(wait_s)
                    continue
                found = Fetched(failure.outcome, str(failure), said=said)
            found.seconds, found.attempts = time.monotonic() - began, attempt
            return found

    def copied(self, wanted: Wanted, said: Said, file: IO[bytes]) -> Fetched:
        """As `fetch`, where another item's bytes are those of the same URL: they lie in `file`."""
        body = self._new_body(wanted)
        try:
            self._check_side(wanted)
            while data := file.read(MIB):
                body.add(data, HEAD)
            return Fetched("fetched", suffix=self._checked(body, wanted), body=body, said=said)
        except NotFetched as failure:
            body.close()
            return Fetched(failure.outcome, str(failure), said=said)

    def _wait_s(self, failure: NotFetched, attempt: int) -> float | None:
        """How long to wait before another attempt; None for none."""
        if not failure.is_transient or attempt >= self._config.tries:
            return None
        wait_s = max(failure.wait_s or 0.0, self._config.backoff_s * 2.0 ** (attempt - 1))
        return wait_s if wait_s <= self._config.max_wait_s else None

    async def _attempt(self, wanted: Wanted, said: Said) -> Fetched:
        address = address_of(wanted.url)
        self._check_side(wanted)
        if self._command is not None and self._command.is_for(address):
            await self._names.addresses(address.host)
            await self._allowed(address)
            return await self._command.fetch(address)
        for _ in range(self._config.redirects + 1):
            step_s = await self._allowed(address)
            async with self._answer(address, wanted, step_s) as (response, host):
                said.__dict__.update(vars(said_by(response.status, address.url, response.headers)))
                if response.status in REDIRECTS:
                    address = redirected(address, value_of(response.headers, "location") or "")
                    continue
                if response.status == 304 and (wanted.etag or wanted.last_modified):
                    return Fetched("unchanged", said=said)
                self._check_status(response, host)
                if self._config.opt_outs:
                    check_wishes(said, self._program)
                return await self._body(response, wanted, said)
        raise refused(f"redirects: more than {self._config.redirects}, the last to {brief(address.url, 200)}")

    def _check_side(self, wanted: Wanted) -> None:
        """Raise NotFetched for what its table states to be smaller than is wanted."""
        if wanted.side is not None and wanted.side < self._config.min_side:
            raise refused(f"too_small: the table states {wanted.side:g} pixels, wanted {self._config.min_side}")

    def _new_body(self, wanted: Wanted) -> Body:
        most = int(self._config.max_mb * MIB)
        return Body(self._folder, most, (wanted.digest or "sha256").partition(":")[0])

    def _checked(self, body: Body, wanted: Wanted) -> str:
        """What whole bytes are. NotFetched where they are no media, or not those that the table means."""
        suffix = _suffix(body)
        if self._config.check_digest:
            _check_digest(body, wanted.digest)
        return suffix

    async def _allowed(self, address: Address) -> float:
        """Raise NotFetched for what the origin's files do not allow; seconds between two requests that they ask for."""
        step_s = 0.0
        if self._config.robots:
            rules = await self._robots.rules(address)
            rules.check(address, self._program)
            step_s = rules.delay_s(self._program)
        if self._config.opt_outs:
            await self._reservations.check(address)
        return step_s

    @asynccontextmanager
    async def _answer(
        self, address: Address, wanted: Wanted | None, step_s: float = 0.0
    ) -> AsyncIterator[tuple[httpcore2.Response, Host]]:
        """The answer to a request, its body not read yet; `step_s` after the one before, at least.

        NotFetched for whatever goes wrong within.
        """
        config = self._config
        request = httpcore2.Request(
            "GET",
            httpcore2.URL(scheme=address.scheme, host=address.host, port=address.port, target=address.target),
            headers=_request_headers(address, config.user_agent, wanted),
            extensions={
                "timeout": {"connect": config.connect_s, "read": config.first_byte_s, "write": config.connect_s}
            },
        )
        async with self._hosts.host(address.origin) as host, host.turn(step_s), self._slots:
            response = None
            try:
                async with asyncio.timeout(config.total_s):
                    async with asyncio.timeout(config.connect_s + config.first_byte_s) as first:
                        response = await host.connections.respond(address, request)
                        first.reschedule(None)
                    host.answered()
                    yield response, host
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = _not_connected(error, config)
                host.failed(failure)
                raise failure from None
            except TimeoutError:
                raise _too_slow(response, config) from None
            except httpcore2.ReadTimeout:
                raise NotFetched(f"{_TOO_SLOW}: silent for {config.first_byte_s:g} s", is_transient=True) from None
            except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
                keyword = "broken" if response is None else "truncated"
                raise NotFetched(f"{keyword}: {brief(error) or type(error).__name__}", is_transient=True) from None
            except (OSError, ssl.SSLError) as error:
                raise NotFetched(f"broken: {brief(error)}", is_transient=True) from None
            finally:
                if response is not None:
                    await response.aclose()

    def _check_status(self, response: httpcore2.Response, host: Host) -> None:
        """Raise NotFetched for a status that brings nothing."""
        status = response.status
        if status == 200:
            return
        wait_s = None
        if status in TOO_MUCH:
            wait_s = host.leave_alone(retry_after(response.headers))
        raise NotFetched(
            f"status_{status}: {_phrase(status)}", is_transient=status in TRY_AGAIN, wait_s=wait_s, status=status
        )

    async def _body(self, response: httpcore2.Response, wanted: Wanted, said: Said) -> Fetched:
        """The bytes of an answer, as long as they are media, no more than allowed and those that were announced."""
        coding = (value_of(response.headers, "content-encoding") or "identity").lower()
        if coding != "identity":
            raise refused(f"encoded: the body is packed ({brief(coding, 40)}), though it was asked for as it is")
        most = int(self._config.max_mb * MIB)
        length = value_of(response.headers, "content-length") or ""
        if length.isascii() and length.isdigit() and len(length) < 19 and int(length) > most:
            raise refused(f"too_large: {length} bytes, allowed {most}")
        body, is_known = self._new_body(wanted), False
        try:
            async for data in response.aiter_stream():
                body.add(data, HEAD)
                if not is_known and len(body.head) >= HEAD:
                    _suffix(body)  # the rest of what is no media is not read
                    is_known = True
            suffix = self._checked(body, wanted)
        except BaseException:
            body.close()
            raise
        return Fetched("fetched", suffix=suffix, body=body, said=said)

    async def _small_text(self, address: Address) -> tuple[int, bytes]:
        """Status and beginning of a text, redirects followed."""
        for _ in range(self._config.redirects + 1):
            async with self._answer(address, None) as (response, host):
                if response.status in REDIRECTS:
                    address = redirected(address, value_of(response.headers, "location") or "")
                    continue
                if response.status in TOO_MUCH:
                    host.leave_alone(retry_after(response.headers))
                data = b""
                async for part in response.aiter_stream():
                    data += part
                    if len(data) >= MAX_BYTES:
                        break
                return response.status, data[:MAX_BYTES]
        return 404, b""  # RFC 9309, section 2.3.1.2: after five redirects as if there were none


def _request_headers(address: Address, user_agent: str, wanted: Wanted | None) -> list[tuple[bytes, bytes]]:
    host = address.origin.partition("://")[2]
    headers = [("Host", host), ("User-Agent", user_agent), ("Accept", "*/*"), ("Accept-Encoding", "identity")]
    if wanted is not None and wanted.etag:
        headers.append(("If-None-Match", wanted.etag))
    if wanted is not None and wanted.last_modified:
        headers.append(("If-Modified-Since", wanted.last_modified))
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers]


def _suffix(body: Body) -> str:
    """What the bytes are, by the first ones. NotFetched for what is no media."""
    if not body.size:
        raise refused("empty: the body has no bytes")
    suffix = suffix_of(body.head)
    if suffix is None:
        raise refused(f"not_media: {described(body.head)}")
    return suffix


def _check_digest(body: Body, wanted: str | None) -> None:
    """Raise NotFetched where the bytes are not those that the table means."""
    name, _, value = (wanted or "").partition(":")
    if value and body.digest(name) != value:
        raise refused(f"wrong_digest: {name} is {body.digest(name)}, the table states {value}")


def _not_connected(error: Exception, config: FetchConfig) -> NotFetched:
    cause: Any = error.__cause__ or error.__context__ or error
    if isinstance(error, httpcore2.ConnectTimeout):
        return NotFetched(f"connect: no connection within {config.connect_s:g} s", is_transient=True)
    if isinstance(cause, ssl.SSLError) or "SSL" in str(error) or "certificate" in str(error).lower():
        return NotFetched(f"tls: {brief(error)}")
    return NotFetched(f"connect: {brief(error) or type(error).__name__}", is_transient=True)


def _too_slow(response: httpcore2.Response | None, config: FetchConfig) -> NotFetched:
    if response is None:
        return NotFetched(f"{_TOO_SLOW}: no answer within {config.first_byte_s:g} s", is_transient=True)
    # it would take as long again
    return NotFetched(f"{_TOO_SLOW}: not whole within {config.total_s:g} s")


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in _STATUSES else "no status that is known"
