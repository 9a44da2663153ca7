"""A job that tries what a decoder must not do, and says what it could: `reelmill doctor` runs it in the child."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reelmill.isolation import wire
from reelmill.isolation.messages import Kind, Kinds
from reelmill.isolation.untrusted import Text
from reelmill.media.source import Source

PROBE_JOB = "reelmill.isolation.probe:probe"
PROBE: Kinds = {"probe": Kind({"could": Text(200)})}


def probe(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """`could`: what was possible, by name. `options`: a `file` and a `folder` to try on, the `parent` process."""
    tries: dict[str, Callable[[], object]] = {
        "read": Path(options["file"]).read_bytes,
        "write": Path(options["folder"], "written").touch,
        "remove": Path(options["file"]).unlink,
        "connect": lambda: socket.socket().close(),
        "start processes": _fork,
        "signal": lambda: os.kill(options["parent"], 0),
    }
    yield {"type": "probe", "could": ", ".join(name for name, act in tries.items() if _works(act))}, {}


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _works(act: Callable[[], object]) -> bool:
    try:
        act()
    except OSError:
        return False
    return True
