"""Items whose bytes changed after they were scored: what was made of the old bytes goes, the items are scored again.

The intent is a failure whose reason begins with MARK, which the tokenize stage commits when it meets such an item.
`send_back` carries it out: first the item's row says so, then its samples go, then what was made of them. It may be
repeated, and runs at the start of everything that writes to a run folder. Scoring takes items so marked.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reelmill.curation.ledger import ITEMS
from reelmill.orchestration.forgotten import tombstone
from reelmill.orchestration.prune import prune
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries

MARK = "changed: "

_ANY = (
    """SELECT 1 FROM failures WHERE starts_with(reason, $1) UNION SELECT 1 FROM items WHERE starts_with(reason, $1)"""
)
_FOUND = """SELECT DISTINCT i.unit, i.item_id, f.reason FROM failures f JOIN scored s USING (sample_id)
    JOIN items i USING (item_id) WHERE starts_with(f.reason, $1)
    UNION SELECT unit, item_id, reason FROM items WHERE starts_with(reason, $1)
    UNION SELECT i.unit, i.item_id, concat($1, 'its address gives other bytes now, or none') FROM items i
        JOIN fetches f USING (item_id) WHERE i.status = 'done' AND f.sha256 IS DISTINCT FROM i.sha256"""


def has_changed(folder: RunFolder) -> bool:
    """Whether any item is known to have changed since it was scored."""
    return bool(_changed(folder))


def send_back(folder: RunFolder) -> int:
    """Mark changed items for scoring and take out what was made of them; returns how many there are."""
    units: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for row in _changed(folder):
        units[row["unit"]][row["item_id"]] = row["reason"]
    for unit, reasons in sorted(units.items()):
        _clear(folder, unit, reasons)
    if units:
        prune(folder)
    return sum(map(len, units.values()))


def _changed(folder: RunFolder) -> list[dict[str, Any]]:
    with LedgerQueries(folder.root) as ledger:
        return ledger.rows(_FOUND, [MARK]) if ledger.rows(_ANY, [MARK]) else []


def _clear(folder: RunFolder, unit: int, reasons: dict[str, str]) -> None:
    """The marks, then the unit's samples without those of the marked items."""
    items = folder.read(folder.unit_path("items", unit)).to_pylist()
    rows = [
        {**tombstone(row, reasons[row["item_id"]]), "bytes": row["bytes"], "reason_class": "machine"}
        if row["item_id"] in reasons
        else row
        for row in items
    ]
    folder.commit(folder.unit_path("items", unit), pa.Table.from_pylist(rows, schema=ITEMS))
    samples = folder.read(folder.unit_path("samples", unit))
    kept = samples.filter(pc.invert(pc.is_in(samples["item_id"], value_set=pa.array(list(reasons)))))
    folder.commit(folder.unit_path("samples", unit), kept)
