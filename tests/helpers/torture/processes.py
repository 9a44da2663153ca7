"""Acts in processes that may be killed, or whose system is made to fail; what they said, and how they ended."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
PATIENCE_S = 300


def start(act, *arguments, said):
    """A process that calls `act(*arguments)`, with the file `said` as its standard output and error."""
    CONTEXT.set_forkserver_preload(["operations", "reelmill.pipelines.cli", "reelmill.train.run"])
    process = CONTEXT.Process(target=_run, args=(act, arguments, said))
    process.start()
    return process


def _run(act, arguments, said):
    os.setsid()
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    act(*arguments)
    sys.stdout.flush()


def command(arguments):
    """`reelmill ARGUMENTS`, whose exit code becomes that of the process."""
    from reelmill.pipelines import cli

    sys.argv = ["reelmill", *map(str, arguments)]
    cli.main()


def ended(process):
    """Its exit code; a process that takes minutes is killed, which is -9."""
    process.join(PATIENCE_S)
    kill(process)
    return process.exitcode


def kill(process):
    """Kill it as `kill -9` does."""
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def kill_after(process, seconds):
    """Whether it was killed: it may have ended before."""
    process.join(seconds)
    alive = process.is_alive()
    kill(process)
    return alive


def seconds_of(act, *arguments, said):
    """How long an undisturbed run of it takes."""
    began = time.monotonic()
    code = ended(start(act, *arguments, said=said))
    if code:
        raise RuntimeError(f"an undisturbed run ended with {code}: {Path(said).read_text()[-500:]}")
    return time.monotonic() - began


def complaint(code, said):
    """What is wrong with how a command ended: anything but success, or one message and its code."""
    text = Path(said).read_text(errors="replace")
    if "Traceback" in text:
        return f"a traceback (exit {code}): {text[-600:]!r}"
    if code not in (0, 2, 3, 4, 5):
        return f"exit {code}: {text[-300:]!r}"
    return "" if code == 0 or "error:" in text else f"exit {code} without a word: {text[-300:]!r}"
