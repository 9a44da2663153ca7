"""What scripts print: figures by name, and rows of the table beside peers, the same work done by a peer and by us."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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


def print_figures(found: Mapping[str, Mapping[str, float]], as_json: bool, decimals: int = 0) -> None:
    """Figures of each thing that was measured, as one line of JSON or a line each."""
    if as_json:
        print(json.dumps(found))
        return
    for name, row in found.items():
        print(f"{name}: " + ", ".join(f"{value:,.{decimals}f} {what}" for what, value in row.items()))
