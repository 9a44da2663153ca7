"""A first look at the address of a model, so that a dead one is known in seconds and not after all retries."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from rich.console import Console

from reelmill.errors import brief
from reelmill.terminal import say

PATIENCE_S = 5.0


def warn_if_silent(url: str, console: Console) -> None:
    """A line where nothing accepts a connection at `url`. The stage asks all the same: it may come up meanwhile."""
    parts = urlsplit(url)
    place = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    try:
        socket.create_connection(place, timeout=PATIENCE_S).close()
    except OSError as error:
        why = brief(error.strerror or str(error))
        advice = "it is tried again and again; start it, or end this and run the same command later"
        say(console, f"nothing answers at {url} ({why}); {advice}", head="endpoint", style="bold yellow")
