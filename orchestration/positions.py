"""Where workers are: the item of each unit in progress, and how far in it.

For whoever watches: no result depends on it.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass

from reelmill.config import from_dict
from reelmill.errors import ConfigError
from reelmill.orchestration.runfolder import RunFolder

NOTED_EVERY_S = 0.5


@dataclass(frozen=True)
class Position:
    """An item that a worker of run `epoch` is at: `at_s` of its `of_s` seconds, as far as they are known."""

    epoch: int
    item_id: str
    uri: str
    at_s: float | None = None
    of_s: float | None = None

    @property
    def words(self) -> str:
        """`(decoding 3:20 of 12:00)`; empty where no time is known."""
        if self.at_s is None:
            return ""
        return f"(decoding {_clock(self.at_s)}{f' of {_clock(self.of_s)}' if self.of_s else ''})"


class Positions:
    """The note of one unit, `running/unit-000123.at`, renewed twice a second at most."""

    def __init__(self, folder: RunFolder, unit: int) -> None:
        self._path = folder.root / "running" / f"unit-{unit:06d}.at"
        self._epoch = folder.epoch
        self._noted = -NOTED_EVERY_S
        self._item_id = self._uri = ""

    def begin(self, item_id: str, uri: str) -> None:
        """The worker begins with an item."""
        self._item_id, self._uri = item_id, uri
        self._note(Position(self._epoch, item_id, uri))

    def at(self, at_s: float, of_s: float | None) -> None:
        """It has decoded so much of the item."""
        self._note(Position(self._epoch, self._item_id, self._uri, at_s, of_s))

    def end(self) -> None:
        """The unit is done."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _note(self, position: Position) -> None:
        now = time.monotonic()
        if now - self._noted < NOTED_EVERY_S:
            return
        self._noted = now
        with contextlib.suppress(OSError):  # a full disk fails where results are written
            self._path.parent.mkdir(exist_ok=True)
            self._path.write_text(json.dumps(vars(position)))


def positions(folder: RunFolder) -> list[Position]:
    """Those of this run, by unit."""
    found = []
    for path in sorted((folder.root / "running").glob("unit-*.at")):
        with contextlib.suppress(OSError, ValueError, TypeError, ConfigError):  # ended, or being written
            found.append(from_dict(Position, dict(json.loads(path.read_text()))))
    return [position for position in found if position.epoch == folder.epoch]


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
