"""What a dump holds now, beside what the plan knows: compared on disk, so that memory does not grow with their rows.

A listing is a temporary Parquet file in the run folder, which `RunFolder.sweep` removes where a run was killed. DuckDB
joins it with `plan.parquet` within `MEMORY` and spills to the same folder what exceeds it.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.curation.ledger import FORGOTTEN, PLAN
from reelmill.curation.rules import quoted
from reelmill.errors import MachineError
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.spilling import MEMORY, ROWS, bound, remove_spilled, spill_folder
from reelmill.orchestration.table_files import read_schema

_NOT_LISTED = ("unit", "position", "forgotten_sha256")
_STAYS = (*_NOT_LISTED, "item_id", "uri", "kind", "problem")
"""Columns of a known item that a listing does not change: a forgotten item is not brought back by a stage."""
PLACE = tuple(name for name in PLAN.names if name not in _STAYS)
"""Where an item lies; all that may change."""
_LISTED = pa.schema([("number", pa.int64()), *(field for field in PLAN if field.name not in _NOT_LISTED)])


class ListingWriter:
    """Writes rows of the plan, which have no unit yet, in the dump's order. A context manager."""

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.root / f".listing.{uuid.uuid4().hex[:8]}.tmp"
        self._writer = pq.ParquetWriter(self.path, _LISTED, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self.count = 0

    def __enter__(self) -> ListingWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self.path.unlink(missing_ok=True)

    def add(self, row: Mapping[str, Any]) -> None:
        """The next row."""
        self._rows.append({"number": self.count, **row})
        self.count += 1
        if len(self._rows) == ROWS:
            self._flush()

    def finish(self) -> None:
        """No row follows."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=_LISTED))
            self._rows = []


class Comparison:
    """A finished listing beside the plan. Of rows with one item_id the first counts. A context manager."""

    def __init__(self, folder: RunFolder, listing: Path) -> None:
        self._spilled = spill_folder(folder.root)
        self._plan = folder.plan_path
        self._connection = duckdb.connect(":memory:")
        bound(self._connection, MEMORY, self._spilled)
        self._run(f"CREATE VIEW plan AS {_plan_query(folder)}")
        self._run(f"""CREATE TABLE firsts AS SELECT min(number) AS number, item_id
            FROM read_parquet({quoted(str(listing))}) GROUP BY item_id""")
        self._run(f"""CREATE VIEW listed AS SELECT l.* FROM read_parquet({quoted(str(listing))}) l
            SEMI JOIN firsts USING (number)""")
        same = " AND ".join(f'l."{name}" IS NOT DISTINCT FROM p."{name}"' for name in PLACE if name != "known")
        self._run(f"""CREATE VIEW both_known AS SELECT p.number AS at, l.* REPLACE (
            CASE WHEN starts_with(p.problem, {quoted(FORGOTTEN)}) THEN NULL ELSE l.known END AS known),
            p.size AS was_size, p.path AS was_path, p."offset" AS was_offset, p.member AS was_member, p.url AS was_url,
            p.dump AS was_dump, ({same}) AS is_same_place, p.known AS was_known
            FROM listed l JOIN plan p USING (item_id)""")

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        remove_spilled(self._spilled)

    def counts(self) -> tuple[int, int]:
        """Items that the plan lacks, and those that it knows."""
        ((new, known),) = self._run("""SELECT count(*) FILTER (p.item_id IS NULL), count(p.item_id)
            FROM firsts LEFT JOIN plan p USING (item_id)""").fetchall()
        return new, known

    def has_moved(self) -> bool:
        """Whether a known item lies elsewhere now, or an archive says something else of it."""
        moved = "SELECT 1 FROM both_known WHERE NOT is_same_place OR known IS DISTINCT FROM was_known LIMIT 1"
        return bool(self._run(moved).fetchall())

    def doubtful(self) -> Iterator[dict[str, Any]]:
        """Known items whose URL, size or path is another one now: the listed row, with what was as `was_*`."""
        query = """SELECT * FROM both_known WHERE (url IS NOT NULL AND url IS DISTINCT FROM was_url)
            OR (url IS NULL AND (size <> was_size OR path <> was_path)) ORDER BY number"""
        for batch in self._batches(query):
            yield from batch.to_pylist()

    def planned(self) -> Iterator[pa.RecordBatch]:
        """The rows of the plan, at their places as they are now."""
        columns = ", ".join(
            f'CASE WHEN b.at IS NULL THEN p."{name}" ELSE b."{name}" END AS "{name}"'
            if name in PLACE
            else f'p."{name}"'
            for name in PLAN.names
        )
        return self._batches(
            f"SELECT {columns} FROM plan p LEFT JOIN both_known b ON b.at = p.number ORDER BY p.number"
        )

    def fresh(self) -> Iterator[pa.RecordBatch]:
        """The rows of items that the plan lacks, without unit and position."""
        return self._batches("SELECT l.* EXCLUDE number FROM listed l ANTI JOIN plan USING (item_id) ORDER BY l.number")

    def _run(self, query: str) -> duckdb.DuckDBPyConnection:
        with self._failures():
            return self._connection.execute(query)

    def _batches(self, query: str) -> Iterator[pa.RecordBatch]:
        with self._failures():
            reader: pa.RecordBatchReader = self._connection.sql(query).to_arrow_reader(ROWS)
            yield from reader

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """DuckDB's failures: the disk's, since the plan has been read through."""
        try:
            yield
        except duckdb.Error as error:
            words = str(error).splitlines()[0]
            raise MachineError(
                f"the dump cannot be compared with {self._plan}: {words}; run the same command again"
            ) from None


def _plan_query(folder: RunFolder) -> str:
    """SQL: the plan with the number of each row; without any where there is no plan. Earlier plans lack columns."""
    if not folder.plan_path.is_file():
        nulls = ", ".join(f'NULL::{_sql_type(field)} AS "{field.name}"' for field in PLAN)
        return f"SELECT 0::BIGINT AS number, {nulls} LIMIT 0"
    has = read_schema(folder.plan_path).names
    columns = ", ".join(f'"{f.name}"' if f.name in has else f'NULL::{_sql_type(f)} AS "{f.name}"' for f in PLAN)
    place = quoted(str(folder.plan_path))
    return f"SELECT file_row_number AS number, {columns} FROM read_parquet({place}, file_row_number = true)"


def _sql_type(field: pa.Field) -> str:
    return {"string": "VARCHAR", "int32": "INTEGER", "int64": "BIGINT"}[str(field.type)]
