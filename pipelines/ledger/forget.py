"""`reelmill forget`: take items out for good. Samples, captions and tokens go; a tombstone stays in the plan.

The tombstone is the plan's `problem` of the item: whatever scores its unit again, today or under another recipe, gets a
refused row instead of the item. Every step may be repeated, so an interrupted `forget` is finished by the same command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from reelmill.curation.ledger import ITEMS, PLAN
from reelmill.errors import ConfigError, DataError
from reelmill.orchestration.prune import prune
from reelmill.orchestration.recipe import load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries, write_database
from reelmill.pipelines.curate.run import decide_again
from reelmill.terminal import say


@dataclass(frozen=True)
class Criterion:
    """What to forget: items by uri (SQL GLOB pattern), by licence, or by id."""

    uri: str = ""
    licence: str = ""
    item: str = ""

    def sql(self) -> tuple[str, list[str], str]:
        """Condition over `items`, its parameters, and the reason on the tombstones. ConfigError unless one is given."""
        given = [(name, value) for name, value in vars(self).items() if value]
        if len(given) != 1:
            raise ConfigError("say what to forget by exactly one of --uri PATTERN, --licence NAME, --item ID")
        ((name, value),) = given
        condition = {"uri": "uri GLOB ?", "licence": "licence = ?", "item": "item_id = ?"}[name]
        return condition, [value], f"forgotten: by {name} {value}"


def forget(folder: RunFolder, criterion: Criterion, console: Console) -> int:
    """Forget matching items and their exact copies (same bytes under another name); returns how many items.

    By licence the copies stay: another source may have offered them under another licence. DataError when nothing
    matches.
    """
    condition, values, reason = criterion.sql()
    copies = "" if criterion.licence else f" OR sha256 IN (SELECT sha256 FROM items WHERE {condition})"
    with folder.lock() as locked:
        with LedgerQueries(locked.root) as ledger:
            query = f"SELECT item_id, unit FROM items WHERE {condition}{copies}"
            found = ledger.rows(query, values * (2 if copies else 1))
        if not found:
            raise DataError(f"no item of {folder.root} matches ({reason.partition(': ')[2]}); see `reelmill sql`")
        ids = pa.array([row["item_id"] for row in found])
        _bury(locked, ids, reason)
        for unit in sorted({row["unit"] for row in found}):
            _remove(locked, unit, ids, reason)
        recipe = load_recipe(locked.root)
        decide_again(locked, recipe, console)
        samples = prune(locked)
        write_database(locked.root)
    say(console, f"forgot {len(ids)} items; captions and tokens of {samples} samples are gone")
    return len(ids)


def _bury(folder: RunFolder, ids: pa.Array, reason: str) -> None:
    """Tombstones into the plan, first of all."""
    rows = folder.read(folder.plan_path).to_pylist()
    buried = set(ids.to_pylist())
    marked = [{**row, "problem": reason} if row["item_id"] in buried else row for row in rows]
    folder.commit(folder.plan_path, pa.Table.from_pylist(marked, schema=PLAN))


def _remove(folder: RunFolder, unit: int, ids: pa.Array, reason: str) -> None:
    """The unit's samples without those of the items, then its items as refused rows that say no more than the uri."""
    samples = folder.read(folder.unit_path("samples", unit))
    kept = samples.filter(pc.invert(pc.is_in(samples["item_id"], value_set=ids)))
    folder.commit(folder.unit_path("samples", unit), kept)
    buried = set(ids.to_pylist())
    items = folder.read(folder.unit_path("items", unit)).to_pylist()
    rows = [_tombstone(row, reason) if row["item_id"] in buried else row for row in items]
    folder.commit(folder.unit_path("items", unit), pa.Table.from_pylist(rows, schema=ITEMS))


def _tombstone(row: dict[str, Any], reason: str) -> dict[str, Any]:
    stays = {name: row[name] for name in ("unit", "item_id", "uri", "kind", "score_fingerprint")}
    buried: dict[str, Any] = dict.fromkeys(ITEMS.names)
    return {**buried, **stays, "status": "refused", "reason": reason, "reason_class": "item", "n_samples": 0}
