"""What a worker was doing when it died: a note per unit, so that an item that kills its worker costs one item.

The engine retries a unit whose worker died. Before each item the worker notes it; a retry that finds a note of the same
run knows which item killed its predecessor. After two deaths the item is refused. Notes of an earlier run do not
count: there the driver was killed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from reelmill.config import from_dict
from reelmill.errors import ConfigError
from reelmill.orchestration.runfolder import RunFolder
from reelmill.os_errors import os_failure

MAX_ATTEMPTS = 2


@dataclass
class _Note:
    epoch: int
    current: str | None = None
    deaths: dict[str, int] = field(default_factory=dict)


class Attempts:
    """The note of one unit: `running/unit-000123.json`."""

    def __init__(self, folder: RunFolder, unit: int) -> None:
        self._path = folder.root / "running" / f"unit-{unit:06d}.json"
        self._epoch = folder.epoch
        note = self._read()
        self._deaths = note.deaths
        if note.current:
            self._deaths[note.current] = self._deaths.get(note.current, 0) + 1

    @property
    def has_deaths(self) -> bool:
        """Whether a worker died over this unit in this run."""
        return bool(self._deaths)

    def retries_exhausted(self, item_id: str) -> bool:
        """Whether this item killed its worker MAX_ATTEMPTS times in this run."""
        return self._deaths.get(item_id, 0) >= MAX_ATTEMPTS

    def begin(self, item_id: str) -> None:
        """Note that `item_id` is being worked on."""
        try:
            self._path.parent.mkdir(exist_ok=True)
            self._path.write_text(json.dumps({"epoch": self._epoch, "current": item_id, "deaths": self._deaths}))
        except OSError as error:
            raise os_failure(error, f"cannot write {self._path}") from None

    def end(self) -> None:
        """The unit is done: forget it."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> _Note:
        try:
            return _read(self._path, self._epoch)
        except FileNotFoundError:
            return _Note(self._epoch)
        except OSError as error:
            raise os_failure(error, f"cannot read {self._path}") from None


def _read(path: Path, epoch: int) -> _Note:
    """The note; an empty one where it is of another run or was cut off when its worker died."""
    try:
        note = from_dict(_Note, dict(json.loads(path.read_text())))
    except (ValueError, TypeError, ConfigError):
        return _Note(epoch)
    return note if note.epoch == epoch else _Note(epoch)
