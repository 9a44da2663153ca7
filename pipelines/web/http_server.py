"""The HTTP server of a local page: its socket, its address, and how it ends."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType
from urllib.parse import urlencode

import uvicorn
from starlette.types import ASGIApp

from reelmill.errors import ConfigError
from reelmill.pipelines.web.connection import BoundedConnection
from reelmill.pipelines.web.guard import Access

TOKEN = "REELMILL_TOKEN"  # noqa: S105  (the variable's name)
KEEP_ALIVE_S = 75
"""How long idle connections stay open: longer than clients keep theirs, so none is closed just as it is used again."""
STOP_S = 5
"""How long responses may still take when the server is stopped."""


def listen(host: str, port: int) -> tuple[socket.socket, Access]:
    """A listening socket on `host` and `port` (0: a free one), and the access to it; see `Access.of`.

    The token is the environment variable REELMILL_TOKEN, if it is set. Raises ConfigError if the port is in use or the
    address does not exist.
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
            f"cannot listen on {host} port {port}: {error.strerror}. Stop the other program, or give another --port; "
            "0 takes a free one."
        ) from error
    return listener, access


def address_of(listener: socket.socket, access: Access) -> str:
    """The address to open in a browser, with the token."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104  (compared, not bound)
        host = socket.gethostname()
    query = f"?{urlencode({'token': access.token})}" if access.token else ""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{query}"


class _Server(uvicorn.Server):
    """Calls `on_stop` when it is told to stop, before it waits for its responses to end."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._on_stop()


def server(app: ASGIApp, on_stop: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """The server of an application; `run(sockets=[listener])` runs it.

    `on_stop` is called in the signal handler if a signal stops it: it tells long responses to end.
    """
    config = uvicorn.Config(
        app,
        http=BoundedConnection,
        log_level="error",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
    )
    return _Server(config, on_stop)


def serve(
    app: ASGIApp,
    listener: socket.socket,
    on_stop: Callable[[], None] = lambda: None,
    failed: Future[None] | None = None,
) -> None:
    """Serve until Ctrl-C, then return; SIGTERM ends the process. Responses that take over STOP_S more are cut off.

    What `failed` raises, should it be done, ends the server and is raised here.
    """
    serving = server(app, on_stop)
    if failed is not None:
        failed.add_done_callback(lambda _: setattr(serving, "should_exit", True))
    with contextlib.suppress(KeyboardInterrupt):
        serving.run(sockets=[listener])
    if failed is not None and failed.done():
        failed.result()
