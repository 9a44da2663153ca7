"""A row of the table beside peers: the same work done by a peer and by us, as costs. Scripts print it with `--json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """`ours` and `theirs` are costs in `unit`, less is better; peak memory in MB where it was measured."""

    work: str
    peer: str
    unit: str
    ours: float
    theirs: float
    ours_mb: float | None = None
    theirs_mb: float | None = None

    @property
    def ratio(self) -> float:
        """Our cost over the peer's: below 1 we are ahead."""
        return self.ours / self.theirs


def print_json(rows: Sequence[Row]) -> None:
    """As one line, the last of the output."""
    print(json.dumps([asdict(row) for row in rows]), flush=True)


def read_json(output: str) -> list[Row]:
    """The rows that a script has printed."""
    return [Row(**row) for row in json.loads(output.strip().splitlines()[-1])]
