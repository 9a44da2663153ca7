"""The plan, read a part at a time: it may have millions of rows, and every worker reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reelmill.curation.ledger import FORGOTTEN, PLAN, PLAN_SINCE
from reelmill.errors import DataError
from reelmill.orchestration.table_files import OpenTable


class PlanReader:
    """Rows of a plan by unit. Row groups hold few units each, and the last that were read stay in memory.

    DataError where the plan is damaged, MachineError where the disk is. Close it, or use it as a context manager.
    """

    def __init__(self, path: Path) -> None:
        self._table = OpenTable(path)
        require_columns(path, self._table.names)
        self._ranges = self._table.ranges("unit")
        self._groups: list[int] = []
        self._held = PLAN.empty_table()

    def __enter__(self) -> PlanReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._table.close()

    def __len__(self) -> int:
        return self._table.rows

    def unit(self, unit: int) -> list[dict[str, Any]]:
        """Rows of one unit, in position order."""
        groups = [group for group, (first, last) in enumerate(self._ranges) if first <= unit <= last]
        if groups != self._groups:
            self._held, self._groups = with_later_columns(self._table.read(groups)), groups
        rows: list[dict[str, Any]] = (
            self._held.filter(pc.equal(self._held["unit"], unit)).sort_by("position").to_pylist()
        )
        return rows

    def batches(self, columns: Sequence[str] = tuple(PLAN.names)) -> Iterator[pa.Table]:
        """All rows, some of the columns, a part at a time."""
        stored = [name for name in columns if name in self._table.names]
        for part in self._table.batches(stored):
            yield with_later_columns(part, columns).select(columns)

    def buried(self) -> Iterator[dict[str, Any]]:
        """`item_id`, `problem` and `forgotten_sha256` of the items that were forgotten."""
        for part in self.batches(["item_id", "problem", "forgotten_sha256"]):
            yield from part.filter(pc.starts_with(part["problem"], FORGOTTEN)).to_pylist()


def require_columns(path: Path, names: Sequence[str]) -> None:
    """DataError where a plan lacks a column that the first plans had."""
    if not set(PLAN.names) - {*PLAN_SINCE} <= set(names):
        raise DataError(f"{path} is damaged: it is no plan; `reelmill verify {path.parent}` says what else is")


def with_later_columns(table: pa.Table, wanted: Sequence[str] = tuple(PLAN.names)) -> pa.Table:
    """A plan's table with the columns that plans have had since, NULL where it lacks them."""
    for name in PLAN_SINCE:
        if name in wanted and name not in table.column_names:
            table = table.append_column(PLAN.field(name), pa.nulls(len(table), PLAN.field(name).type))
    return table
