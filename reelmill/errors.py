"""Errors that a user sees: each says what was found, what is allowed, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager


class ReelmillError(Exception):
    """Base of every expected failure; the command line prints it without a traceback and exits with `exit_code`."""

    exit_code = 1


class ConfigError(ReelmillError):
    """A recipe, an option or an argument is wrong."""

    exit_code = 2


class WeightsError(ReelmillError):
    """Weights or sample media are missing, damaged or need a consent."""

    exit_code = 3


class DataError(ReelmillError):
    """A dump, a run folder, a table or a document is not what it should be."""

    exit_code = 4


class MachineError(ReelmillError):
    """The machine failed the work: disk full, lost worker, out of memory, another run holds the folder."""

    exit_code = 5


class Preempted(ReelmillError):
    """A signal (SIGTERM, SIGUSR1) stopped a training run, which saved; the same command goes on (EX_TEMPFAIL)."""

    exit_code = 75


class Interrupted(ReelmillError):
    """The user stopped it (Ctrl-C)."""

    exit_code = 130


class Refused(Exception):
    """An item cannot be used: a short keyword, a colon, the facts. It becomes the reason of the item's row."""


def brief(error: object, most: int = 200) -> str:
    """What an exception or a stranger says, as one line of at most `most` characters that can be stored as UTF-8."""
    return " ".join(str(error).encode("utf-8", "replace").decode().split())[:most]


def is_utf8(text: str) -> bool:
    """Whether a text has no lone surrogates, which Python has for the bytes of names that are not UTF-8."""
    return text == text.encode("utf-8", "replace").decode()


def printable(text: str) -> str:
    """Text that may hold names from a dump, for a terminal: control, direction and other invisible characters are
    spelled out; lines stay, and so do the joiners of emoji and of Persian and Indian words."""
    return "".join(c if c.isprintable() or c in "\n\u200c\u200d" else ascii(c)[1:-1] for c in text)


@contextmanager
def resumable() -> Iterator[None]:
    """Around work that goes on where it was when the same command is given again: Ctrl-C says so."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("stopped; the same command goes on where it was") from None
