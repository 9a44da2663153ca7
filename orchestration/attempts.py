"""What a worker was doing when it died: a note per unit, so that an item that kills its worker costs one item.

The engine retries a unit whose worker died. Before each item the worker notes it; a retry that finds a note of the same
run knows which item killed its predecessor. After two deaths the item is refused. Notes of an earlier run do not
count: there the driver was killed.
"""

from __future__ import annotations

import json
from typing import Any

from reelmill.orchestration.runfolder import RunFolder

MAX_ATTEMPTS = 2


class Attempts:
    """The note of one unit: `running/unit-000123.json`."""

    def __init__(self, folder: RunFolder, unit: int) -> None:
        self._path = folder.root / "running" / f"unit-{unit:06d}.json"
        self._epoch = folder.epoch
        note = self._read()
        self._deaths: dict[str, int] = note.get("deaths", {})
        if note.get("current"):
            self._deaths[note["current"]] = self._deaths.get(note["current"], 0) + 1

    def retries_exhausted(self, item_id: str) -> bool:
        """Whether this item killed its worker MAX_ATTEMPTS times in this run."""
        return self._deaths.get(item_id, 0) >= MAX_ATTEMPTS

    def begin(self, item_id: str) -> None:
        """Note that `item_id` is being worked on."""
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_text(json.dumps({"epoch": self._epoch, "current": item_id, "deaths": self._deaths}))

    def end(self) -> None:
        """The unit is done: forget it."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        if not self._path.is_file():
            return {}
        try:
            note: dict[str, Any] = json.loads(self._path.read_text())
        except ValueError:  # the worker died while it wrote
            return {}
        return note if note.get("epoch") == self._epoch else {}
