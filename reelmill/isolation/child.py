"""The untrusted child: hostile bytes are decoded here, in a process of its own for each item, confined.

Started as `python -m reelmill.isolation.child` by `reelmill.isolation.server`. This process imports the decoders of a
job, a generator `module:function`, when the job is first asked for. It never sees an item's bytes: for each item it
forks a worker, which gives up its rights (`confinement.py`), decodes and ends. A worker that was taken over is gone
with its item.

Requests come over a Unix socket (standard input): JOB with two open files, the item's and a pipe for the answers, then
4 bytes of length and JSON with the job's name, its memory, the item's range and options. Each thing that the generator
yields becomes a message (`wire.py`) on the pipe; `end` or `refused` closes it. When the worker has ended, its wait
status and CPU seconds go back over the socket. STOP ends a worker that still runs.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from reelmill.errors import DataError, Refused, brief
from reelmill.isolation import wire
from reelmill.isolation.confinement import OPEN_FILES, Confinement, die_with_parent, limit_open_files, limit_resources
from reelmill.media.source import OpenSource, Source

Job = Callable[[Source, dict[str, Any]], Iterator[wire.Message]]
JOB, STOP = b"J", b"S"
LENGTH = struct.Struct(">I")
ENDED = struct.Struct(">id")
"""What the parent hears of a worker that has ended: wait status, CPU seconds."""
MAX_REASON = 1000
"""Characters."""


@dataclass(frozen=True)
class _Request:
    job: str
    memory_bytes: int
    offset: int
    size: int
    options: dict[str, Any]
    item: int
    """The item's file, open."""
    answers: int
    """The pipe for what the worker says."""


def find_job(spec: str) -> Job:
    """The generator that `module:function` names."""
    module, _, name = spec.partition(":")
    job: Job = getattr(importlib.import_module(module), name)
    return job


def main() -> None:
    """Serve until the parent closes the socket or ends: `child CONFINE`."""
    (confine,) = sys.argv[1:]
    limit_open_files()
    _Server(socket.socket(fileno=0), confine == "1").serve()


class _Server:
    """Forks a worker for each request. It is the worker that meets the item's bytes."""

    def __init__(self, control: socket.socket, confine: bool) -> None:
        self._control, self._confine = control, confine
        self._jobs: dict[str, Job] = {}
        self._confinement: Confinement | None = None
        self._woken, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker)  # a worker that ends wakes `select`

    def serve(self) -> None:
        """One item after another, until the socket closes."""
        server = os.getpid()
        while (request := _receive(self._control)) is not None:
            job = self._find(request.job)
            began = time.process_time()
            worker = os.fork()
            if worker == 0:
                _work(server, job, request, self._confinement)
            os.close(request.item)
            os.close(request.answers)
            status, cpu_s = self._wait(worker)
            self._control.sendall(ENDED.pack(status, cpu_s + time.process_time() - began))

    def _find(self, spec: str) -> Job:
        """The job, imported at its first use; a worker may read the files of what is loaded by then."""
        if spec not in self._jobs:
            self._jobs[spec] = find_job(spec)
            if self._confinement is not None:
                self._confinement.close()
            self._confinement = Confinement() if self._confine else None
            gc.collect()
            gc.freeze()  # the workers' collectors leave alone what is here now, so that its pages stay shared
        return self._jobs[spec]

    def _wait(self, worker: int) -> tuple[int, float]:
        """The worker's wait status and CPU seconds. Ends it, and this process, when the parent is gone."""
        while True:
            ended, status, usage = os.wait4(worker, os.WNOHANG)
            if ended:
                return status, usage.ru_utime + usage.ru_stime
            readable, _, _ = select.select([self._control.fileno(), self._woken], [], [])
            if self._woken in readable:
                os.read(self._woken, 4096)
            if self._control.fileno() in readable:
                os.kill(worker, signal.SIGKILL)
                if self._control.recv(1) != STOP:
                    sys.exit()


def _receive(control: socket.socket) -> _Request | None:
    """The next request; None when the parent has closed the socket or ended."""
    what, files, _, _ = socket.recv_fds(control, 1, 2)
    while what == STOP:  # for a worker that had ended by itself
        what, files, _, _ = socket.recv_fds(control, 1, 2)
    if not what:
        return None
    body = json.loads(_exactly(control, LENGTH.unpack(_exactly(control, LENGTH.size))[0]))
    item, answers = files
    return _Request(**body, item=item, answers=answers)


def _exactly(control: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        got = control.recv(min(length - len(data), 1 << 20))
        if not got:
            sys.exit()  # the parent ended while it asked
        data += got
    return bytes(data)


def _work(server: int, job: Job, request: _Request, confinement: Confinement | None) -> NoReturn:
    """The worker's whole life. It leaves without doing what the server would do at its end."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent(server)
        limit_resources(request.memory_bytes)
        _keep_only({request.item, request.answers}, confinement)
        with os.fdopen(request.answers, "wb") as answers:
            for body, arrays in _answer(job, request, confinement):
                wire.send(answers, body, arrays)
        code = 0
    finally:
        os._exit(code)


def _keep_only(files: set[int], confinement: Confinement | None) -> None:
    """Close everything else, the terminal too: a library that prints prints nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    kept = files | ({confinement.rules} if confinement and confinement.rules is not None else set())
    for file in range(3, OPEN_FILES):
        if file not in kept:
            os.closerange(file, file + 1)  # whether it is open or not


def _answer(job: Job, request: _Request, confinement: Confinement | None) -> Iterator[wire.Message]:
    if confinement is not None:
        try:
            confinement.enter()
        except OSError as error:
            yield _refusal("machine", f"not_confined: {error}")
            return
    source = OpenSource("", request.offset, request.size, request.item)
    last: wire.Message = {"type": "end"}, {}
    try:
        yield from job(source, request.options)
    except Refused as refusal:
        last = _refusal("item", str(refusal))
    except DataError as error:
        last = _refusal("machine", f"unreadable: {error}")
    except MemoryError:
        last = _refusal("machine", "out_of_memory: the decoding limit was hit")
    except Exception as error:  # any decoder error is the item's; the ledger keeps its words
        last = _refusal("item", f"decode_error: {type(error).__name__}: {brief(error, 300)}")
    if source.faults:  # whatever the decoder made of it
        last = _refusal("machine", f"unreadable: {source.faults[0]}")
    yield last


def _refusal(reason_class: str, reason: str) -> wire.Message:
    said = reason.encode("utf-8", "replace").decode()[:MAX_REASON]
    return {"type": "refused", "reason_class": reason_class, "reason": said}, {}


if __name__ == "__main__":
    main()
