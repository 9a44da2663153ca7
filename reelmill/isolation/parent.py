"""The engine's side of the untrusted child: start, deadline, kill, start again.

A crash or a hang costs one item. What ends a job early is told apart: the child's own refusals (class `item`, or
`machine` for memory), a crash by a signal of its own (`item`: the same bytes will crash it again), a kill from outside
and a missed deadline (`machine`: worth one more try).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, cast

from reelmill.isolation import wire
from reelmill.media.source import Source

ReasonClass = Literal["item", "machine"]

CRASH_SIGNALS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS}
MAX_REASON = 1000
ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What the child inherits: no keys, tokens or proxies, which hostile bytes could come to read."""


@dataclass
class IsolationConfig:
    """Limits of the child that decodes untrusted bytes."""

    stall_s: float = 60.0
    """A child silent for this long is hanging (it reports at least every second of work)."""
    item_s: float = 3600.0
    """Most seconds one item may take."""
    memory_mb: int = 4096
    """Address space of the child, MiB."""


class ItemFailed(Exception):
    """A job ended without its result; `reason` begins with a keyword."""

    def __init__(self, reason_class: ReasonClass, reason: str) -> None:
        super().__init__(reason)
        self.reason_class: ReasonClass = reason_class
        self.reason = reason


class Child:
    """A persistent decoding process. Not thread safe. Use as a context manager, or `close` it."""

    def __init__(self, config: IsolationConfig, preload: tuple[str, ...] = ()) -> None:
        self._config = config
        self._preload = preload
        self._process: subprocess.Popen[bytes] | None = None
        self.cpu_s = 0.0
        """CPU seconds of the jobs that came to an end, by the child's own clock."""

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None

    def run(self, job: str, source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
        """Run one job and yield its messages; heartbeats are swallowed.

        Raises ItemFailed when the child refuses the item, crashes, hangs or sends nonsense. Closing the iterator early
        kills the child.
        """
        process = self._started()
        finished = False
        try:
            request = {"job": job, "path": source.path, "offset": source.offset, "size": source.size}
            wire.send(cast(BinaryIO, process.stdin), {**request, "options": options})
            deadline = time.monotonic() + self._config.item_s
            while True:
                body, arrays = self._next(process, deadline)
                if body.get("type") == "tick":
                    continue
                if body.get("type") in ("refused", "end"):
                    self.cpu_s += float(body["cpu_s"]) if isinstance(body.get("cpu_s"), float) else 0.0
                if body.get("type") == "refused":
                    finished = True
                    reason_class: ReasonClass = "machine" if body.get("reason_class") == "machine" else "item"
                    reason = str(body.get("reason")).encode("utf-8", "replace").decode()
                    raise ItemFailed(reason_class, reason[:MAX_REASON])
                if body.get("type") == "end":
                    finished = True
                    return
                yield body, arrays
        except BrokenPipeError:
            raise self._died(process) from None
        finally:
            if not finished:
                self.close()

    def _next(self, process: subprocess.Popen[bytes], deadline: float) -> wire.Message:
        try:
            message = wire.receive(_DeadlineReader(cast(BinaryIO, process.stdout).fileno(), self._config, deadline))
        except wire.WireError as error:
            if process.poll() is not None:
                raise self._died(process) from None
            raise ItemFailed("item", f"decoder_nonsense: {error}") from None
        if message is None:
            raise self._died(process)
        return message

    def _died(self, process: subprocess.Popen[bytes]) -> ItemFailed:
        code = process.wait()
        if -code in CRASH_SIGNALS:
            return ItemFailed("item", f"decoder_crashed: signal {signal.Signals(-code).name}")
        if code < 0:
            return ItemFailed("machine", f"decoder_killed: signal {signal.Signals(-code).name}")
        return ItemFailed("machine", f"decoder_exited: status {code}")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            command = [sys.executable, "-m", "reelmill.isolation.child", str(self._config.memory_mb * 1024**2)]
            environment = {name: value for name, value in os.environ.items() if name in ENVIRONMENT}
            environment.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
            environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
            self._process = subprocess.Popen(
                [*command, *self._preload],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        return self._process


class _DeadlineReader:
    """Reads a pipe, but never waits past the stall limit or the item's deadline."""

    def __init__(self, descriptor: int, config: IsolationConfig, deadline: float) -> None:
        self._descriptor, self._config, self._deadline = descriptor, config, deadline
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN | select.POLLHUP)

    def readinto(self, buffer: memoryview) -> int:
        left = self._deadline - time.monotonic()
        if not self._poll.poll(1000 * max(min(self._config.stall_s, left), 0.0)):
            name = "stall_s" if left > self._config.stall_s else "item_s"
            raise ItemFailed("machine", f"timeout: no answer within {name} = {getattr(self._config, name):g} s")
        return os.readv(self._descriptor, [buffer])

    def read(self, length: int) -> bytes:
        data = bytearray(length)
        filled = 0
        while filled < length:
            got = self.readinto(memoryview(data)[filled:])
            if not got:
                break
            filled += got
        return bytes(data[:filled])
