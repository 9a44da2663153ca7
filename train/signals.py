"""Requests to stop a run: it saves after the current step and ends, and the same command resumes it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from reelmill.errors import Interrupted, Preempted, ReelmillError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Of Kubernetes, torchrun and Slurm; of Slurm's `--signal=USR1@SECONDS`; of Ctrl-C."""
STOP_FILE = "stop"
"""A file in the folder of a run that asks it to stop, from any machine that sees the folder."""
_IMPATIENT_S = 2.0


class StopRequest:
    """The signal that asked this process to stop, if one did, or the one whose name stands in a `file`."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._noted: signal.Signals | None = None
        self._since = 0.0

    @property
    def signal(self) -> signal.Signals | None:
        """What was asked for so far. A file is deleted with that, so that it stops one run; an empty one is SIGTERM."""
        if self._noted is None and self.file and self.file.exists():
            self._noted = signal.Signals[self.file.read_text(encoding="utf-8").strip() or "SIGTERM"]
            self.file.unlink()
        return self._noted

    def note(self, number: int, _: FrameType | None) -> None:
        """The handler. A second Ctrl-C does not wait for the step to end.

        It must come later: one key reaches a process twice, from the terminal and from torchrun.
        """
        if self._noted is None:
            self._noted, self._since = signal.Signals(number), time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > _IMPATIENT_S:
            raise KeyboardInterrupt


def stopped(signals: Sequence[str], steps: int) -> ReelmillError:
    """The error that ends a run saved after `steps` steps; `signals` are the names of the signals that asked for it."""
    error = Interrupted if "SIGINT" in signals else Preempted
    by = ", ".join(signals)
    return error(f"stopped by {by}, saved after {steps} steps; the same command goes on from there")


@contextmanager
def stop_requests(file: Path | None = None) -> Iterator[StopRequest]:
    """Note `SIGNALS` instead of dying of them. Outside the main thread (a Ray worker) Python takes no handlers: there
    `file` alone counts."""
    request = StopRequest(file)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
