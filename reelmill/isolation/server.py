"""The engine's handles of the processes that start decoders (`child.py`): start, ask, stop, hear of ends.

A server takes a third of a second of CPU to import its decoders, so one that is idle waits for the next job of this
process. A job that runs while another does gets a server of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from typing import Any

from reelmill.isolation.child import ENDED, JOB, LENGTH, STOP

ENDING_S = 10.0
"""How long a worker may take to end once its pipe is closed, or it is killed."""
ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What the child inherits: no keys, tokens or proxies, which hostile bytes could come to read."""


_Kind = tuple[int, bool, tuple[tuple[str, str], ...]]
"""What makes two servers alike: the process that they serve, confinement, environment."""

_idle: defaultdict[_Kind, list[Server]] = defaultdict(list)


class Server:
    """A running server. What it is asked for it does one after another."""

    def __init__(self, confine: bool) -> None:
        self.kind = _kind(confine)
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "reelmill.isolation.child", str(int(confine))],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=dict(self.kind[-1]),
                start_new_session=True,
            )

    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def ask(self, request: dict[str, Any], item: int, within_s: float) -> int:
        """Start a worker for a request (`child.py`) about the open file `item`; returns the pipe on which it answers.

        Raises OSError when the server is gone, or takes nothing for `within_s`.
        """
        body = json.dumps(request).encode()
        answers, theirs = os.pipe()
        try:
            self._control.settimeout(within_s)
            socket.send_fds(self._control, [JOB], [item, theirs])
            self._control.sendall(LENGTH.pack(len(body)) + body)
        except OSError:
            os.close(answers)
            raise
        finally:
            os.close(theirs)
        return answers

    def stop(self) -> None:
        """Kill the worker; `wait` still has to hear of its end."""
        with contextlib.suppress(OSError):  # a server that is gone has taken its worker along
            self._control.sendall(STOP)

    def wait(self) -> tuple[int, float] | None:
        """Wait status and CPU seconds of the worker that has ended; None when it does not, or the server is gone."""
        try:
            self._control.settimeout(ENDING_S)
            said = self._control.recv(ENDED.size, socket.MSG_WAITALL)
        except OSError:
            return None
        return ENDED.unpack(said) if len(said) == ENDED.size else None

    def close(self) -> None:
        """Kill server and worker."""
        self._control.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def take_server(confine: bool) -> Server:
    """An idle server of this process, or a new one. The caller gives it back (`give_back`) or closes it."""
    idle = _idle[_kind(confine)]
    while True:
        try:
            server = idle.pop()
        except IndexError:
            return Server(confine)
        if server.is_running():
            return server
        server.close()


def give_back(server: Server) -> None:
    """Let the next job have a server that has no worker."""
    _idle[server.kind].append(server)


@atexit.register
def close_idle() -> None:
    """End the servers that wait. One that works ends with this process."""
    for kind in [kind for kind in _idle if kind[0] == os.getpid()]:  # after a fork the others are the other process's
        for server in _idle.pop(kind):
            server.close()


def _kind(confine: bool) -> _Kind:
    environment = {name: value for name, value in os.environ.items() if name in ENVIRONMENT}
    environment.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return os.getpid(), confine, tuple(sorted(environment.items()))
