"""Requests to stop a run: it saves after the current step and ends, and the same command resumes it."""

from __future__ import annotations

import os
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
_GRACE_S = 2.0
"""From a second Ctrl-C to the end of the process, whatever it is doing."""


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
        with _ended_by_force():
            yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _ended_by_force() -> Iterator[None]:
    """End the process where a second Ctrl-C has not ended it soon.

    A handler runs between two steps of Python: inside an operator it waits, for minutes where that is large. Python
    itself notes each signal in a pipe at once; a thread reads it. Checkpoints are whole or not there at any time.
    """
    ended = threading.Event()
    read, write = os.pipe()
    os.set_blocking(write, False)
    thread = threading.Thread(target=_watch, args=(read, ended), name="interrupts", daemon=True)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        os.close(write)
        thread.join()
        os.close(read)


def _watch(read: int, ended: threading.Event) -> None:
    first = None
    while said := os.read(read, 1):
        if said[0] != signal.SIGINT:
            continue
        now = time.monotonic()
        if first is None:
            first = now
        elif now - first > _IMPATIENT_S and not ended.wait(_GRACE_S):
            os._exit(Interrupted.exit_code)
