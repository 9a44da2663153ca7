"""The untrusted child: decodes hostile bytes under limits and speaks `wire` on its standard streams.

Started as `python -m reelmill.isolation.child` by `reelmill.isolation.parent`. It answers jobs one after another.
A job names a generator `module:function` (an expander's or a clip decoder's), the item's place and options; each thing
it yields becomes a message, and `{"type": "end"}` closes the job. A job that raises is a refusal with a reason; a crash
is the parent's to notice.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from reelmill.errors import DataError, Refused
from reelmill.isolation import wire
from reelmill.media.source import Source

Job = Callable[[Source, dict[str, Any]], Iterator[wire.Message]]
PR_SET_PDEATHSIG = 1


def limit_resources(memory_bytes: int) -> None:
    """Bound this process: address space, no file writes, few open files, no core dump, no life after its parent's."""
    if sys.platform == "linux":  # macOS has neither
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def find_job(spec: str) -> Job:
    """The generator that `module:function` names."""
    module, _, name = spec.partition(":")
    job: Job = getattr(importlib.import_module(module), name)
    return job


def main() -> None:
    """Serve jobs from standard input until it closes."""
    jobs, answers = os.fdopen(0, "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break the protocol
    memory_bytes = int(sys.argv[1])
    for spec in sys.argv[2:]:
        find_job(spec)  # imports are done before the limits close in
    limit_resources(memory_bytes)
    while (message := wire.receive(jobs)) is not None:
        request, _ = message
        began = time.process_time()
        for body, arrays in _answer(request):
            wire.send(answers, {**body, "cpu_s": time.process_time() - began}, arrays)


def _answer(request: dict[str, Any]) -> Iterator[wire.Message]:
    source = Source(request["path"], request["offset"], request["size"])
    try:
        yield from find_job(request["job"])(source, request["options"])
        yield {"type": "end"}, {}
    except Refused as refusal:
        yield {"type": "refused", "reason_class": "item", "reason": str(refusal)}, {}
    except DataError as error:
        yield {"type": "refused", "reason_class": "machine", "reason": f"unreadable: {error}"}, {}
    except MemoryError:
        yield {"type": "refused", "reason_class": "machine", "reason": "out_of_memory: the decoding limit was hit"}, {}
    except Exception as error:  # any decoder error is the item's; the ledger keeps its words
        words = " ".join(str(error).split())[:300]
        reason = f"decode_error: {type(error).__name__}: {words}"
        yield {"type": "refused", "reason_class": "item", "reason": reason}, {}


if __name__ == "__main__":
    main()
