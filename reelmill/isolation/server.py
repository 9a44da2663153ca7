"""The engine's handle of the process that starts decoders for one job (`child.py`): start, ask, stop, hear of ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any

from reelmill.isolation.child import ENDED, JOB, LENGTH, STOP

ENDING_S = 10.0
"""How long a worker may take to end once its pipe is closed, or it is killed."""
ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What the child inherits: no keys, tokens or proxies, which hostile bytes could come to read."""


class Server:
    """A running server for the job `module:function`. What it is asked for it does one after another."""

    def __init__(self, job: str, memory_bytes: int, confine: bool) -> None:
        self._control, theirs = socket.socketpair()
        environment = {name: value for name, value in os.environ.items() if name in ENVIRONMENT}
        environment.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "reelmill.isolation.child", job, str(memory_bytes), str(int(confine))],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def ask(self, item: int, offset: int, size: int, options: dict[str, Any], within_s: float) -> int:
        """Start a worker on a range of the open file `item`; returns the pipe on which it answers.

        Raises OSError when the server is gone, or takes nothing for `within_s`.
        """
        body = json.dumps({"offset": offset, "size": size, "options": options}).encode()
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
        self._control.settimeout(ENDING_S)
        try:
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
