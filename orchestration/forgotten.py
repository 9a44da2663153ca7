"""What a run folder has been told to forget. The tombstones in the plan are the intent; everything else follows them.

`bury` commits the intent, all items of a `forget` at once. `carry_out` makes the tables agree with it: it may be
repeated, does only what is missing, and runs at the start of everything that writes to a run folder. So a `forget` that
was killed anywhere is finished by the next command, whatever that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reelmill.curation.ledger import FORGOTTEN, ITEMS, PLAN
from reelmill.orchestration.fetched import forget_bytes
from reelmill.orchestration.picture_spool import drop_pictures
from reelmill.orchestration.planned import PlanReader
from reelmill.orchestration.prune import prune
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries


def bury(folder: RunFolder, hashes: Mapping[str, str | None], reason: str) -> None:
    """Put a tombstone on each item, given by id, in one commit.

    The values are the SHA-256 of the items whose bytes are to be refused under any other name as well, else None. What
    an archive said of the items goes at once, and so do all pictures that a stopped run has left: they are made again,
    and of buried items never.
    """
    drop_pictures(folder)
    problem = f"{FORGOTTEN}{reason}"
    marks = {
        identity: {"problem": problem, "forgotten_sha256": known, "known": None} for identity, known in hashes.items()
    }
    ids = pa.array(list(marks), pa.string())

    def marked(part: pa.Table) -> Iterator[pa.RecordBatch]:
        if pc.any(pc.is_in(part["item_id"], value_set=ids)).as_py():
            rows = [{**row, **marks.get(row["item_id"], {})} for row in part.to_pylist()]
            part = pa.Table.from_pylist(rows, schema=PLAN)
        yield from part.to_batches()

    with folder.plan() as plan:
        folder.commit_batches(folder.plan_path, PLAN, chain.from_iterable(map(marked, plan.batches())))


def forgotten_hashes(plan: PlanReader) -> dict[str, str]:
    """SHA-256 of the bytes that are refused under any name, and the reason."""
    return {row["forgotten_sha256"]: row["problem"] for row in plan.buried() if row["forgotten_sha256"] is not None}


def tombstone(row: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """The row of `items` of a forgotten item, which says no more than its uri. `row` is one of `items`."""
    stays = {name: row[name] for name in ("unit", "item_id", "uri", "kind", "score_fingerprint")}
    buried: dict[str, Any] = dict.fromkeys(ITEMS.names)
    return {**buried, **stays, "status": "refused", "reason": reason, "reason_class": "item", "n_samples": 0}


def carry_out(folder: RunFolder) -> int | None:
    """Take out what remains of buried items: samples, rows of `items`, captions, failures and tokens.

    Returns how many samples had captions, failures or tokens; None where nothing at all was left to do.
    """
    if not folder.plan_path.is_file():
        return None
    with folder.plan() as plan:
        reasons = {row["item_id"]: row["problem"] for row in plan.buried()}
    if not reasons:
        return None
    units = _units_with_remains(folder, reasons)
    for unit in units:
        _clear(folder, unit, reasons)
    pruned = prune(folder)
    return pruned if units or pruned or _has_stale_verdicts(folder) else None


def _units_with_remains(folder: RunFolder, reasons: Mapping[str, str]) -> list[int]:
    """Units whose tables still hold something of these items."""
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.rows(
            """SELECT unit FROM items WHERE list_contains($1, item_id) AND NOT starts_with(coalesce(reason, ''), $2)
            UNION SELECT unit FROM scored WHERE list_contains($1, item_id)
            UNION SELECT unit FROM fetches WHERE list_contains($1, item_id) AND url IS NOT NULL ORDER BY unit""",
            [list(reasons), FORGOTTEN],
        )
    return [row["unit"] for row in rows]


def _clear(folder: RunFolder, unit: int, reasons: Mapping[str, str]) -> None:
    """The unit without what was fetched of the items, its samples without theirs, then its items with tombstones."""
    forget_bytes(folder, unit, reasons)
    if not folder.unit_path("items", unit).is_file():  # fetched, and not scored yet
        return
    samples = folder.read(folder.unit_path("samples", unit))
    kept = samples.filter(pc.invert(pc.is_in(samples["item_id"], value_set=pa.array(list(reasons)))))
    folder.commit(folder.unit_path("samples", unit), kept)
    items = folder.read(folder.unit_path("items", unit)).to_pylist()
    rows = [tombstone(row, reasons[row["item_id"]]) if row["item_id"] in reasons else row for row in items]
    folder.commit(folder.unit_path("items", unit), pa.Table.from_pylist(rows, schema=ITEMS))


def _has_stale_verdicts(folder: RunFolder) -> bool:
    with LedgerQueries(folder.root) as ledger:
        query = "SELECT count(*) AS n FROM verdicts WHERE sample_id NOT IN (SELECT sample_id FROM scored)"
        return bool(ledger.rows(query)[0]["n"])
