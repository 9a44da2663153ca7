"""Access to a local server, and bounds on requests: an ASGI layer around an application.

Every page that a browser on this machine shows can reach a server on loopback. Two checks keep other pages out. The
Host must be this machine's (a page whose name was rebound to 127.0.0.1 still sends its own name), and a request that
states its origin must come from the server itself. If a token is required, it replaces the check of the Host: other
pages do not have it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
import time
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reelmill.errors import ConfigError
from reelmill.pipelines.web.errors import HttpError, error_body

SHORTEST_TOKEN = 16
MAX_REQUESTS = 256
"""Requests that are served at a time; further ones get a 503."""
SILENCE_S = 30.0
"""A client that sends nothing of its body, or reads nothing of its response, for so long is disconnected."""
BODY_S = 120.0
"""The longest that a whole body may take."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data: blob:; media-src 'self' data: blob:; style-src 'self'; "
        "script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether an address or name can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


@dataclass(frozen=True)
class Access:
    """Who has access: with a token everyone who has it, without one everyone on this machine."""

    token: str | None = None

    @classmethod
    def of(cls, host: str, token: str | None) -> Access:
        """Access to a server on `host`. Beyond loopback there is always a token, a random one if none is given.

        Raises ConfigError for a token that is too short or not printable ASCII.
        """
        if token is None:
            return cls(None if is_loopback(host) else secrets.token_urlsafe(24))
        if len(token) < SHORTEST_TOKEN or not all("!" <= letter <= "~" for letter in token):
            raise ConfigError(
                f"the token has {len(token)} characters; give at least {SHORTEST_TOKEN}, printable ASCII without blanks"
            )
        return cls(token)

    def allows(self, given: str | None) -> bool:
        """Whether `given` is the token."""
        if self.token is None or given is None:
            return False
        return secrets.compare_digest(given.encode(), self.token.encode())


class _UnreadError(Exception):
    """The client does not read its response."""


class Guard:
    """The layer around `app`: it refuses strangers, bounds bodies and waiting times, and adds security headers.

    The token comes as `Authorization: Bearer TOKEN`, or once as `?token=TOKEN`, which is then kept in a cookie.
    """

    def __init__(self, app: ASGIApp, access: Access, max_body: int) -> None:
        self.app, self.access, self.max_body = app, access, max_body
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] != "http":  # the server's own startup and shutdown; it accepts no other kinds
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        self._requests += 1
        try:
            # A client that has disconnected or does not read, and the end of the server, are no failures.
            with contextlib.suppress(ClientDisconnect, _UnreadError, asyncio.CancelledError):
                response = self._refusal_or_redirect(request) or self.app
                await response(scope, _bounded(receive, self.max_body), _with_headers(send))
        finally:
            self._requests -= 1

    def _refusal_or_redirect(self, request: Request) -> Response | None:
        """What answers a request that is not passed on."""
        try:
            if self._requests > MAX_REQUESTS:
                raise HttpError(503, f"{MAX_REQUESTS} requests are being served; try again soon", retry_after="1")
            self._check_sender(request)
            response = self._login(request)
            self._check_length(request)
        except HttpError as refusal:
            return JSONResponse(error_body(refusal), refusal.status_code, refusal.headers)
        return response

    def _check_sender(self, request: Request) -> None:
        """Refuse requests from pages of other sites."""
        host = request.headers.get("host", "")
        if self.access.token is None and not is_loopback(_name(f"//{host}")[0]):
            raise HttpError(403, f"the host is {host!r}; without a token this server accepts localhost only")
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
        if origin is not None and _name(origin)[1] != _name(f"//{host}")[1]:
            raise HttpError(403, f"the origin is {origin}; only pages of this server may send requests")
        follows_a_link = request.method == "GET" and request.headers.get("sec-fetch-mode") == "navigate"
        if site not in ("none", "same-origin") and not follows_a_link:
            raise HttpError(403, "a page of another site sent this; only pages of this server may send requests")

    def _login(self, request: Request) -> Response | None:
        """None if the token is right or none is required; a redirect if the token is in the address."""
        if self.access.token is None:
            return None
        cookie = f"reelmill-{request.scope['server'][1]}"  # browsers do not tell cookies of ports apart
        if self.access.allows(request.query_params.get("token")) and request.method == "GET":
            response = RedirectResponse(f"/{request.url.path.lstrip('/')}", 303)
            response.set_cookie(cookie, self.access.token, httponly=True, samesite="lax")
            return response
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.access.allows(given.strip()):
            return None
        if self.access.allows(_cookie(request, cookie)):
            return None
        raise HttpError(
            401,
            "the token is missing or wrong; send Authorization: Bearer TOKEN, or open /?token=TOKEN in a browser",
            code="invalid_api_key",
            www_authenticate="Bearer",
        )

    def _check_length(self, request: Request) -> None:
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.max_body:
            raise _too_large(self.max_body)


def _name(url: str) -> tuple[str, str]:
    """The host of an address, and the host with its port; empty if there is none."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.netloc.lower()
    except ValueError:
        return "", ""


def _cookie(request: Request, name: str) -> str | None:
    try:
        morsel = SimpleCookie(request.headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return morsel.value if morsel else None


def _too_large(max_body: int) -> HttpError:
    return HttpError(413, f"the body is over {max_body:,} bytes, the maximum; send less", code="too_large")


def _bounded(receive: Receive, max_body: int) -> Receive:
    """Receives at most `max_body` bytes. A part of the body may take SILENCE_S, all of it BODY_S."""
    size, is_whole, end = 0, False, 0.0

    async def bounded() -> Message:
        nonlocal size, is_whole, end
        if is_whole:  # the next message is the disconnect, whenever that comes
            return await receive()
        end = end or time.monotonic() + BODY_S  # from the first read: until then the client may have to wait
        try:
            message = await asyncio.wait_for(receive(), min(SILENCE_S, max(0.0, end - time.monotonic())))
        except TimeoutError:
            raise HttpError(408, "the body takes too long; send it at once", connection="close") from None
        size += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if size > max_body:
            raise _too_large(max_body)
        return message

    return bounded


def _with_headers(send: Send) -> Send:
    """Sends with the security headers, and gives up on a client that reads nothing for SILENCE_S."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        try:
            await asyncio.wait_for(send(message), SILENCE_S)
        except TimeoutError:
            raise _UnreadError from None

    return send_with_headers
