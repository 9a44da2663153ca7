"""Signals that ask a run to stop: it saves at the next step and ends, so that the same command goes on."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Of Kubernetes, torchrun and Slurm; of Slurm's `--signal=USR1@SECONDS`; of Ctrl-C."""
_IMPATIENT_S = 2.0


class StopRequest:
    """The signal that asked this process to stop, if one did."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._since = 0.0

    def note(self, number: int, _: FrameType | None) -> None:
        """The handler. A second Ctrl-C does not wait for the step to end.

        It must come later: one key reaches a process twice, from the terminal and from torchrun.
        """
        if self.signal is None:
            self.signal, self._since = signal.Signals(number), time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > _IMPATIENT_S:
            raise KeyboardInterrupt


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note `SIGNALS` instead of dying of them. Outside the main thread (a Ray worker) Python takes no handlers."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
