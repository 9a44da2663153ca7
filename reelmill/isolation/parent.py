"""The engine's side of the untrusted child: start, ask, listen, kill, start again.

A crash, a hang or a lie costs one item. What ends a job early is told apart: the child's own refusals (class `item`, or
`machine` for memory), a crash by a signal of its own (`item`: the same bytes will crash it again), a kill from outside
and a missed deadline (`machine`: worth one more try).
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from reelmill.errors import DataError
from reelmill.isolation import wire
from reelmill.isolation.messages import ALWAYS, Kinds
from reelmill.isolation.server import Server, give_back, take_server
from reelmill.isolation.untrusted import MAX_MESSAGE_BYTES, Nonsense
from reelmill.media.source import Packed, Place, Source

if TYPE_CHECKING:
    from reelmill.isolation.unpacking import Unpacker

log = logging.getLogger(__name__)

ReasonClass = Literal["item", "machine"]
T = TypeVar("T")

CRASH_SIGNALS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS}
MACHINE_TRIES = 2
SERVER_GONE = "decoder_killed: the process that starts decoders has ended, or does not answer"


@dataclass
class IsolationConfig:
    """Limits of the child that decodes untrusted bytes."""

    stall_s: float = 60.0
    """A child silent for this long is hanging (it reports at least every second of work)."""
    item_s: float = 3600.0
    """Most seconds one item may take."""
    memory_mb: int = 4096
    """Address space of the child, MiB."""
    confine: bool = True
    """Landlock and seccomp around what decodes, where the machine has them; false leaves the limits alone."""


class ItemFailed(Exception):
    """A job ended without its result; `reason` begins with a keyword."""

    def __init__(self, reason_class: ReasonClass, reason: str) -> None:
        super().__init__(reason)
        self.reason_class: ReasonClass = reason_class
        self.reason = reason


class Child:
    """Runs jobs, each in a process of its own, which a server of this process starts (`server.py`).

    Not thread safe. Use as a context manager, or `close` it.
    """

    def __init__(
        self, config: IsolationConfig, on_position: Callable[[float, float | None], None] | None = None
    ) -> None:
        """`on_position` is told how far a job is: seconds in the item, and how many it has where it says so."""
        self._config, self._on_position = config, on_position
        self._unpacker: Unpacker | None = None
        self.cpu_s = 0.0
        """CPU seconds of the jobs that came to an end, by the system's clock."""

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what holds an archive open."""
        if self._unpacker is not None:
            self._unpacker.close()
            self._unpacker = None

    def opened(self, place: Place) -> Source:
        """A place as a source that can be opened: itself, or the member of an archive unpacked.

        Raises ItemFailed where the archive is broken there, or gone.
        """
        if not isinstance(place, Packed):
            return place
        if self._unpacker is None:
            from reelmill.isolation.unpacking import Unpacker

            self._unpacker = Unpacker(self._config)
        try:
            return self._unpacker.unpacked(place)
        finally:
            self.cpu_s += self._unpacker.take_cpu_s()

    def run_all(
        self,
        job: str,
        source: Place,
        options: dict[str, Any],
        kinds: Kinds,
        take: Callable[[Iterator[wire.Message]], T],
        most_bytes: int = MAX_MESSAGE_BYTES,
        tries: int = MACHINE_TRIES,
    ) -> T:
        """What `take` makes of all messages of a job. A failure of the machine is tried once more, from the beginning.

        Raises ItemFailed, and what `take` raises.
        """
        for _ in range(tries - 1):
            try:
                return take(self.run(job, source, options, kinds, most_bytes))
            except ItemFailed as failure:
                if failure.reason_class == "item":
                    raise
                log.info("%s; trying once more", failure.reason)
        return take(self.run(job, source, options, kinds, most_bytes))

    def run(
        self,
        job: str,
        source: Place,
        options: dict[str, Any],
        kinds: Kinds,
        most_bytes: int = MAX_MESSAGE_BYTES,
    ) -> Generator[wire.Message]:
        """Run one job and yield its messages, of `kinds` and `most_bytes` at most; heartbeats are swallowed.

        Raises ItemFailed when the child refuses the item, crashes, hangs or sends nonsense. Closing the iterator early
        ends the job.
        """
        server, answers = self._ask(job, self.opened(source), options)
        ended: tuple[int, float] | None = None
        try:
            for body, arrays in _listen(answers, {**kinds, **ALWAYS}, most_bytes, self._config):
                if body["type"] == "end":
                    return
                if body["type"] == "refused":
                    raise ItemFailed(body["reason_class"], body["reason"])
                if body["type"] != "tick":
                    yield body, arrays
                elif self._on_position is not None and body["at_s"] is not None:
                    self._on_position(body["at_s"], body["of_s"])
            ended = server.wait()
            raise _died(ended[0]) if ended else ItemFailed("machine", SERVER_GONE)
        finally:
            os.close(answers)
            self._settle(server, ended)

    def _ask(self, job: str, source: Source, options: dict[str, Any]) -> tuple[Server, int]:
        """Hand a job over, the item's file already open; returns its server and the pipe on which the answers come."""
        memory = self._config.memory_mb * 1024**2
        about = {"job": job, "memory_bytes": memory, "offset": source.offset, "size": source.size, "options": options}
        try:
            item = source.descriptor()
        except DataError as error:
            raise ItemFailed("machine", f"unreadable: {error}") from None
        server = take_server(self._config.confine)
        try:
            return server, server.ask(about, item, self._config.stall_s)
        except (BrokenPipeError, ConnectionError, TimeoutError):
            server.close()
            raise ItemFailed("machine", SERVER_GONE) from None
        finally:
            os.close(item)

    def _settle(self, server: Server, ended: tuple[int, float] | None) -> None:
        """Count a worker that has ended; end one that has said its last word, or whose job is over."""
        if ended is None:
            server.stop()
            ended = server.wait()
        if ended is None:
            server.close()
        else:
            self.cpu_s += ended[1]
            give_back(server)


def _listen(answers: int, kinds: Kinds, most_bytes: int, config: IsolationConfig) -> Iterator[wire.Message]:
    """Messages until the pipe ends, none oftener than its kind may be sent. Raises ItemFailed."""
    reader = _DeadlineReader(answers, config)
    counts: Counter[str] = Counter()
    try:
        while (message := wire.receive(reader, kinds, most_bytes)) is not None:
            kind = message[0]["type"]
            counts[kind] += 1
            if counts[kind] > kinds[kind].most:
                raise Nonsense(f"more than {kinds[kind].most} messages of type {kind}")
            yield message
    except wire.CutOff:
        return  # what became of the worker says more
    except Nonsense as error:
        raise ItemFailed("item", f"decoder_nonsense: {error}") from None


def _died(status: int) -> ItemFailed:
    """What became of a worker that ended without its last word."""
    if not os.WIFSIGNALED(status):
        return ItemFailed("machine", f"decoder_exited: status {os.waitstatus_to_exitcode(status)}")
    number = os.WTERMSIG(status)
    name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
    if number in CRASH_SIGNALS:
        return ItemFailed("item", f"decoder_crashed: signal {name}")
    return ItemFailed("machine", f"decoder_killed: signal {name}")


class _DeadlineReader:
    """Reads a pipe, but never waits past the stall limit or the item's deadline."""

    def __init__(self, descriptor: int, config: IsolationConfig) -> None:
        self._descriptor, self._config = descriptor, config
        self._deadline = time.monotonic() + config.item_s
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
