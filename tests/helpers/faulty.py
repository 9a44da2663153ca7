"""Expanders that misbehave on marked items, run in a real child process."""

import errno
import os
import signal
import time
from pathlib import Path

from reelmill.curation.expanders import image, text, video
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


def _failing_disk(expander, source, options):
    """Half-way through the item the system's own call answers with EIO, once."""
    real, bad = os.pread, source.offset + source.size // 2

    def pread(file, count, offset):
        if offset <= bad < offset + count:
            os.pread = real
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(file, count, offset)

    os.pread = pread
    yield from expander.expand(source, options)


def text_on_a_failing_disk(source, options):
    """A text whose disk fails."""
    yield from _failing_disk(text, source, options)


def image_on_a_failing_disk(source, options):
    """An image whose disk fails."""
    yield from _failing_disk(image, source, options)


def video_on_a_failing_disk(source, options):
    """A video whose disk fails."""
    yield from _failing_disk(video, source, options)
