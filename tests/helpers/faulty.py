"""Expanders that misbehave on marked items, run in a real child process."""

import os
import signal
import time
from pathlib import Path

from reelmill.curation.expanders import text
from reelmill.errors import Refused


def expand(source, options):
    """Text items that say what to do; anything else is expanded as text."""
    with source.open() as stream:
        words = stream.read().decode("utf-8", "replace").split()
    order = words[0] if words else ""
    if order == "SEGFAULT":
        os.kill(os.getpid(), signal.SIGSEGV)
    if order == "KILLED":
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "HANG":
        time.sleep(3600)
    if order == "MEMORY":
        bytearray(1 << 40)
    if order == "NOISE":
        print("noise on standard output", flush=True)
        os.write(1, b"noise on standard output")
        os.write(2, b"noise on standard error")
    if order == "RAISE":
        raise ValueError("decoder said no")
    if order == "REFUSE":
        raise Refused("not_wanted: as asked")
    if order == "ENVIRONMENT":
        raise Refused("environment: " + " ".join(sorted(os.environ)))
    if order == "FILES":
        Path(words[1]).write_text("x" * 100)
    yield from text.expand(source, options)
