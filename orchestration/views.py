"""DuckDB over a run folder: the views that people query, and our own queries through the same views.

`reelmill.duckdb` holds views with paths relative to the run folder (`cd OUT && duckdb reelmill.duckdb`). They show
committed units only. Our own connections see the same views over absolute paths, and no other file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from reelmill.errors import MachineError
from reelmill.files import write_atomically

DATABASE = "reelmill.duckdb"

VIEWS = {  # {root} is the run folder with a slash, or nothing
    "items": "SELECT * FROM read_parquet('{root}items/*.parquet', union_by_name = true)",
    "scored": """SELECT * FROM read_parquet('{root}samples/*.parquet', union_by_name = true)
        WHERE unit IN (SELECT DISTINCT unit FROM items)""",
    "verdicts": """SELECT * EXCLUDE (filename),
        regexp_extract(filename, '([^/\\\\]+)[.]parquet$', 1) AS selection
        FROM read_parquet('{root}verdicts/*.parquet', filename = true, union_by_name = true)""",
    "captions": "SELECT * EXCLUDE (unit) FROM read_parquet('{root}captions/*.parquet', union_by_name = true)",
    "samples": """SELECT s.*, v.status, v.stage, v.rule, v.value, v.threshold, v.duplicate_of,
        c.caption, c.caption_source, i.uri, i.source, i.licence, i.url, i.alt
        FROM scored s JOIN items i USING (item_id)
        LEFT JOIN verdicts v ON v.sample_id = s.sample_id AND v.selection = 'default'
        LEFT JOIN captions c ON c.sample_id = s.sample_id""",
    "failures": "SELECT * EXCLUDE (unit) FROM read_parquet('{root}failures/*.parquet', union_by_name = true)",
    "tokens": "SELECT * FROM read_parquet('{root}tokens/**/*.parquet', union_by_name = true)",
}


def write_database(root: Path) -> None:
    """Write `reelmill.duckdb` anew (its views depend on nothing but the folder's layout)."""

    def write(temporary: Path) -> None:
        try:
            with duckdb.connect(str(temporary)) as connection:
                connection.execute("SET file_search_path = ?", [str(root)])
                _create_views(connection, "")
        except duckdb.IOException as error:
            raise MachineError(
                f"cannot write {root / DATABASE}: {error}. Free space, then run the same command again."
            ) from error

    write_atomically(root / DATABASE, write)


class LedgerQueries:
    """A locked-down connection to a run folder's views: reads this folder, nothing else, and writes nothing."""

    def __init__(self, root: Path) -> None:
        self.connection = duckdb.connect(":memory:")
        self.connection.execute("SET allowed_directories = [?]", [f"{root}/"])
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")
        _create_views(self.connection, f"{root}/")

    def __enter__(self) -> LedgerQueries:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def table(self, query: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """Result as an Arrow table."""
        return self.connection.sql(query, params=list(parameters)).to_arrow_table()

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Result as dicts."""
        rows: list[dict[str, Any]] = self.table(query, parameters).to_pylist()
        return rows


def content_tag(ids: Iterable[str]) -> str:
    """Ten hex digits that name a set of samples: the same work has the same file name, so nothing can double."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:10]


def _create_views(connection: duckdb.DuckDBPyConnection, root: str) -> None:
    prefix = root.replace("'", "''")
    for name, query in VIEWS.items():
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {query.replace('{root}', prefix)}")
