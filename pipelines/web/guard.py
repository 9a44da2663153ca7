"""Who may ask a local server, and how much: an ASGI layer around a page.

A server on loopback is reachable by every page that its user's browser shows. Two checks keep those out: the Host must
be this machine's (a page whose name was rebound to 127.0.0.1 still sends its own name), and a request that says where
it comes from must come from the server itself. Where a token is asked for, it takes the place of the check of the Host:
a stranger's page does not have it.
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
from reelmill.pipelines.web.errors import Refusal, error_body

SHORTEST_TOKEN = 16
SILENCE_S = 30.0
"""A client that sends nothing of its body, or takes nothing of its answer, for so long is given up."""
BODY_S = 120.0
"""How long a body may take in all."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
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
    """Who may ask: with a token whoever has it, without one whoever is on this machine."""

    token: str | None = None

    @classmethod
    def of(cls, host: str, token: str | None) -> Access:
        """For a server on `host`: beyond loopback there is a token, a random one where none is given.

        Raises ConfigError for a token that is too short or no plain ASCII.
        """
        if token is None:
            return cls(None if is_loopback(host) else secrets.token_urlsafe(24))
        if len(token) < SHORTEST_TOKEN or not all("!" <= letter <= "~" for letter in token):
            raise ConfigError(
                f"the token has {len(token)} characters; give at least {SHORTEST_TOKEN}, ASCII letters, digits or signs"
            )
        return cls(token)

    def allows(self, given: str | None) -> bool:
        """Whether `given` is the token."""
        if self.token is None or given is None:
            return False
        return secrets.compare_digest(given.encode(), self.token.encode())


class _Unread(Exception):
    """The client takes nothing of its answer."""


class Guard:
    """The layer around `app`: strangers are refused, bodies and silences bounded, answers get security headers.

    The token comes as `Authorization: Bearer TOKEN`, or once as `?token=TOKEN`, which a cookie then stands for.
    """

    def __init__(self, app: ASGIApp, access: Access, max_body: int) -> None:
        self.app, self.access, self.max_body = app, access, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] != "http":  # the server's own start and stop; it takes no other kinds
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        send = _answering(send)
        try:
            self._check_sender(request)
            answer = self._login(request)
            self._check_length(request)
        except Refusal as refusal:
            answer = JSONResponse(error_body(refusal), refusal.status_code, refusal.headers)
        # A client that has left or takes nothing, and the server's end, are no failures.
        with contextlib.suppress(ClientDisconnect, _Unread, asyncio.CancelledError):
            await (answer or self.app)(scope, _bounded(receive, self.max_body), send)

    def _check_sender(self, request: Request) -> None:
        """Refuse requests that a page of someone else makes."""
        host = request.headers.get("host", "")
        if self.access.token is None and not is_loopback(_name(f"//{host}")[0]):
            raise Refusal(403, f"the host is {host!r}; without a token this server answers to localhost only")
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
        if origin is not None and _name(origin)[1] != _name(f"//{host}")[1]:
            raise Refusal(403, f"a page of {origin} asks; only this server's own pages may")
        follows_a_link = request.method == "GET" and request.headers.get("sec-fetch-mode") == "navigate"
        if site not in ("none", "same-origin") and not follows_a_link:
            raise Refusal(403, "a page of another site asks; only this server's own pages may")

    def _login(self, request: Request) -> Response | None:
        """Nothing where the token is right or none is asked for; the way on, where it stands in the address."""
        if self.access.token is None:
            return None
        cookie = f"reelmill-{request.scope['server'][1]}"  # browsers do not tell cookies of ports apart
        if self.access.allows(request.query_params.get("token")) and request.method == "GET":
            answer = RedirectResponse(f"/{request.url.path.lstrip('/')}", 303)
            answer.set_cookie(cookie, self.access.token, httponly=True, samesite="lax")
            return answer
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.access.allows(given.strip()):
            return None
        if self.access.allows(_cookie(request, cookie)):
            return None
        raise Refusal(
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
    """The host of an address, and the host with its port; empty where there is none."""
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


def _too_large(max_body: int) -> Refusal:
    return Refusal(413, f"the body is over {max_body:,} bytes, the most that is taken; send less", code="too_large")


def _bounded(receive: Receive, max_body: int) -> Receive:
    """Receives at most `max_body` bytes; a part of the body may take SILENCE_S, and all of it BODY_S."""
    taken, is_whole, end = 0, False, 0.0

    async def bounded() -> Message:
        nonlocal taken, is_whole, end
        if is_whole:  # what remains to come is the client's leaving, whenever that is
            return await receive()
        end = end or time.monotonic() + BODY_S  # from when it is asked for: until then the client may have to wait
        try:
            message = await asyncio.wait_for(receive(), min(SILENCE_S, max(0.0, end - time.monotonic())))
        except TimeoutError:
            raise Refusal(408, "the body is too slow in coming; send it in one go", connection="close") from None
        taken += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if taken > max_body:
            raise _too_large(max_body)
        return message

    return bounded


def _answering(send: Send) -> Send:
    """Sends with the security headers, and gives up on a client that takes nothing for SILENCE_S."""

    async def answering(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        try:
            await asyncio.wait_for(send(message), SILENCE_S)
        except TimeoutError:
            raise _Unread from None

    return answering
