"""The server of a local page: a socket, Ctrl-C, and the address to open."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from types import FrameType
from urllib.parse import urlencode

import uvicorn
from starlette.types import ASGIApp

from reelmill.errors import ConfigError
from reelmill.pipelines.web.guard import Access

TOKEN = "REELMILL_TOKEN"  # noqa: S105  (the variable's name)
CONNECTIONS = 512
KEEP_ALIVE_S = 75
"""Idle connections stay so long: longer than clients keep theirs, so that none is closed just as it is used again."""
STOP_S = 5
"""Answers that are under way when the server is stopped have so long to end."""


def listen(host: str, port: int) -> tuple[socket.socket, Access]:
    """A socket on `host` and `port` (0: a free one), and who may ask there: see `Access.of`.

    The token is that of the environment's REELMILL_TOKEN, where it is set. Raises ConfigError where the place is taken
    or there is no such place.
    """
    access = Access.of(host, os.environ.get(TOKEN) or None)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen()
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror}. Stop what is there, or name another --port; "
            "0 takes a free one."
        ) from error
    return listener, access


def address_of(listener: socket.socket, access: Access) -> str:
    """What to open in a browser, the token in it."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104  (compared, not bound)
        host = socket.gethostname()
    query = f"?{urlencode({'token': access.token})}" if access.token else ""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{query}"


class _Server(uvicorn.Server):
    """Says when it is told to stop, before it waits for its answers to end."""

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._stopping()


def server(app: ASGIApp, stopping: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """The server of an application; `run(sockets=[listener])` runs it.

    `stopping` is called where a signal stops it, in the signal's handler: it tells long answers to end.
    """
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
    )
    return _Server(config, stopping)


def serve(app: ASGIApp, listener: socket.socket, stopping: Callable[[], None] = lambda: None) -> None:
    """Answer until Ctrl-C, and return; SIGTERM ends the process. Answers that take over STOP_S more are cut."""
    with contextlib.suppress(KeyboardInterrupt):
        server(app, stopping).run(sockets=[listener])
