"""Rows that a stage has left to do, on disk in the order in which it does them: there may be millions.

They lie in a temporary file of the run folder, which `RunFolder.sweep` removes where a run was killed. DuckDB finds
them within `MEMORY` and spills what exceeds it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.table_files import OpenTable, write_batches


@dataclass(frozen=True)
class Slice:
    """`count` rows of a file, from row `first` on."""

    path: Path
    first: int
    count: int

    def rows(self) -> list[dict[str, Any]]:
        """They as dicts."""
        table = OpenTable(self.path)
        try:
            groups, before = table.groups_with(self.first, self.first + self.count)
            rows: list[dict[str, Any]] = table.read(groups).slice(self.first - before, self.count).to_pylist()
        finally:
            table.close()
        return rows


def set_aside(folder: RunFolder, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Path:
    """Write rows to a file of their own; a batch a row group."""
    path = folder.root / f".left.{uuid.uuid4().hex[:8]}.tmp"
    write_batches(path, schema, batches)
    return path


def runs(path: Path, keys: list[str]) -> Iterator[tuple[tuple[Any, ...], Slice]]:
    """Rows one after another that have the same values of `keys`."""
    table = OpenTable(path)
    try:
        first, count, last = 0, 0, None
        for part in table.batches(keys):
            for values in zip(*(part[key].to_pylist() for key in keys), strict=True):
                if values != last:
                    if last is not None:
                        yield last, Slice(path, first, count)
                    first, count, last = first + count, 0, values
                count += 1
        if last is not None:
            yield last, Slice(path, first, count)
    finally:
        table.close()
