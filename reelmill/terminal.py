"""What reelmill says on a terminal and in a log. Names, captions and errors are data: never escape sequences or markup.

`--verbose` and `--quiet` say how much of it: `progress_console` and the log follow them, results do not.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from reelmill.errors import printable

LOG = "reelmill.log"
"""The log of a run folder, and of a training run."""
_SAID = logging.getLogger("reelmill.said")
"""Lines that a console shows: they go to log files, not to standard error once more."""
_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


def echo(text: str) -> None:
    """Text on standard output, control and direction characters spelled out."""
    print(printable(text), flush=True)


def tell(text: str) -> None:
    """A line about what goes on, on standard output; not with `--quiet`. It is logged too."""
    _SAID.info("%s", printable(text))
    if not _is_quiet():
        echo(text)


def tell_beside(text: str) -> None:
    """The same on standard error: standard output is for a script."""
    say(progress_console(stderr=True), text)


def json_line(value: Any) -> str:
    """A value as JSON on one line: numbers that are not finite are null."""
    return json.dumps(plain(value), default=str, allow_nan=False)


def echo_json(value: Any) -> None:
    """A value as JSON on standard output, for a script: numbers that are not finite are null."""
    print(json.dumps(plain(value), indent=2, default=str, allow_nan=False), flush=True)


def say(console: Console, text: str, head: str = "", style: str = "bold") -> None:
    """A line on a console, wrapped by the terminal alone; `head` stands before it in `style`. It is logged too."""
    _SAID.info("%s", printable(f"{head} {text}".strip()))
    line = Text.assemble((printable(head), style), " ", printable(text)) if head else Text(printable(text))
    console.print(line, soft_wrap=True)


def cell(text: str) -> Text:
    """A text for a table, on one line."""
    return Text(printable(text).replace("\n", "\\n"))


def plain(value: Any) -> Any:
    """A value as JSON knows it: infinities and NaN become None; lists and objects are gone through."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def set_up() -> None:
    """For the start of a command: any text can be written, and what is logged is spelled out too.

    Names that are not UTF-8 have lone surrogates, which Python refuses to write otherwise.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    root = logging.getLogger()
    if _STANDARD_ERROR not in root.handlers:
        root.addHandler(_STANDARD_ERROR)
    set_verbosity(0)


def set_verbosity(level: int) -> None:
    """How much is said of what goes on: -1 errors alone, 0 progress and warnings, 1 the log's infos, 2 all of it."""
    _STANDARD_ERROR.setLevel(_LEVELS[max(-1, min(level, 2))])
    logging.getLogger("reelmill").setLevel(min(_STANDARD_ERROR.level, logging.INFO))


def progress_console(*, stderr: bool = False) -> Console:
    """A console for what goes on while a command works: it shows nothing with `--quiet`."""
    return Console(stderr=stderr, quiet=_is_quiet())


def _is_quiet() -> bool:
    return _STANDARD_ERROR.level >= logging.ERROR


@contextmanager
def log_to(folder: Path, about: str) -> Iterator[None]:
    """Within, the log and what is said go to `folder`/reelmill.log too, each line with its time.

    `about` is the first line; an exception is the last one. Nothing is written as long as there is no such folder.
    """
    handler = _LogFile(folder / LOG, encoding="utf-8", errors="backslashreplace", delay=True)
    handler.setFormatter(_Stamped("%(asctime)s %(levelname)s %(message)s"))
    own = logging.getLogger("reelmill")
    level = own.level
    own.setLevel(min(level or logging.INFO, logging.INFO))
    own.addHandler(handler)
    try:
        _SAID.info("%s", about)
        yield
    except BaseException as error:
        _SAID.error("%s: %s", type(error).__name__, error)
        raise
    finally:
        own.removeHandler(handler)
        own.setLevel(level)
        handler.close()


class _StandardError(logging.Handler):
    """Messages of the log as lines on standard error, control and direction characters spelled out."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != _SAID.name:
            print(printable(self.format(record)), file=sys.stderr)


_STANDARD_ERROR = _StandardError()


class _LogFile(logging.FileHandler):
    """A file that is opened once its folder is there; what is logged before is held."""

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(path, **options)
        self._held: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._held.append(record)
        if Path(self.baseFilename).parent.is_dir():
            held, self._held = self._held, []
            for waiting in held:
                super().emit(waiting)


class _Stamped(logging.Formatter):
    """A line for each message, with the time to the second and its offset from UTC (ISO 8601)."""

    default_time_format = "%Y-%m-%dT%H:%M:%S%z"
    default_msec_format = ""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record)).replace("\n", "\\n")
