"""What reelmill says on a terminal. Names, captions and errors are data: never escape sequences, never markup."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from reelmill.errors import printable


def echo(text: str) -> None:
    """Text on standard output, control and direction characters spelled out."""
    print(printable(text), flush=True)


def echo_json(value: Any) -> None:
    """A value as JSON on standard output, for a script: numbers that are not finite are null."""
    print(json.dumps(plain(value), indent=2, default=str, allow_nan=False), flush=True)


def say(console: Console, text: str, head: str = "", style: str = "bold") -> None:
    """A line on a console, wrapped by the terminal alone; `head` stands before it in `style`."""
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
    logging.basicConfig(handlers=[_StandardError()], level=logging.WARNING)


class _StandardError(logging.Handler):
    """Messages of the log as lines on standard error, control and direction characters spelled out."""

    def emit(self, record: logging.LogRecord) -> None:
        print(printable(self.format(record)), file=sys.stderr)
