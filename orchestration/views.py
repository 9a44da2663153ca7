"""DuckDB over a run folder: the views that people query, and our own queries through the same views.

`reelmill.duckdb` holds views with paths relative to the run folder (`cd OUT && duckdb reelmill.duckdb`). They show
committed units only. Our own connections see the same views over absolute paths, and no other file.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from reelmill.config import from_dict, read_toml
from reelmill.curation.captions.config import CaptionConfig
from reelmill.errors import ConfigError, DataError, MachineError
from reelmill.files import write_atomically

DATABASE = "reelmill.duckdb"

VIEWS = {  # {root} is the run folder with a slash, or nothing; {prefer}, {languages}, {models} are the recipe's
    "items": "SELECT * FROM read_parquet('{root}items/*.parquet', union_by_name = true)",
    "scored": """SELECT * FROM read_parquet('{root}samples/*.parquet', union_by_name = true)
        WHERE unit IN (SELECT DISTINCT unit FROM items)""",
    "verdicts": """SELECT * EXCLUDE (filename),
        regexp_extract(filename, '([^/\\\\]+)[.]parquet$', 1) AS selection
        FROM read_parquet('{root}verdicts/*.parquet', filename = true, union_by_name = true)""",
    "captions": """SELECT * EXCLUDE (unit) REPLACE (CASE WHEN problem IS NULL AND len({languages}) > 0
        AND language NOT IN {languages} THEN 'wrong_language' ELSE problem END AS problem)
        FROM read_parquet('{root}captions/*.parquet', union_by_name = true)""",
    "chosen_captions": """SELECT sample_id, arg_min(caption, place) AS caption,
            arg_min(caption_source, place) AS caption_source
        FROM (SELECT *, (2 * {prefer} + (model IS NOT NULL AND
            NOT list_contains({models}, caption_source || '=' || model))::BIGINT) * (1::BIGINT << 52)
            - epoch_us(created) AS place FROM captions WHERE problem IS NULL)
        WHERE place IS NOT NULL GROUP BY sample_id""",
    "samples": """SELECT s.*, v.status, v.stage, v.rule, v.value, v.threshold, v.duplicate_of,
        c.caption, c.caption_source, i.uri, i.source, i.licence, i.url, i.alt
        FROM scored s JOIN items i USING (item_id)
        LEFT JOIN verdicts v ON v.sample_id = s.sample_id AND v.selection = 'default'
        LEFT JOIN chosen_captions c ON c.sample_id = s.sample_id""",
    "failures": "SELECT * EXCLUDE (unit) FROM read_parquet('{root}failures/*.parquet', union_by_name = true)",
    "tokens": "SELECT * FROM read_parquet('{root}tokens/**/*.parquet', union_by_name = true)",
    "timings": "SELECT * FROM read_parquet('{root}timings/*.parquet', union_by_name = true)",
}
LATER = {"timings"}
"""Tables that folders of earlier versions lack."""


def write_database(root: Path) -> None:
    """Write `reelmill.duckdb` anew (its views depend on the layout and on which captions the recipe prefers)."""

    def write(temporary: Path) -> None:
        try:
            with duckdb.connect(str(temporary)) as connection, contextlib.chdir(root):
                _create_views(connection, root, "")
        except duckdb.Error as error:
            raise MachineError(
                f"cannot write {root / DATABASE}: {error}. Free space, then run the same command again."
            ) from error

    write_atomically(root / DATABASE, write)


class LedgerQueries:
    """A locked-down connection to a run folder's views: reads this folder, nothing else, and writes nothing."""

    def __init__(self, root: Path) -> None:
        self.connection = duckdb.connect(":memory:")
        # a pattern must lie in an allowed directory as it is written, a file as it is named
        self.connection.execute("SET allowed_directories = [?, ?]", [f"{root}/", literal_pattern(f"{root}/")])
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")
        try:
            _create_views(self.connection, root, literal_pattern(f"{root}/"))
        except duckdb.Error as error:
            message = str(error).splitlines()[0]
            raise DataError(
                f"{root} cannot be queried: {message}. `reelmill verify {root}` says what is wrong."
            ) from None

    def __enter__(self) -> LedgerQueries:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def has(self, view: str) -> bool:
        """Whether the folder has this table; one made by an earlier version may lack a later one."""
        return bool(self.rows("SELECT view_name FROM duckdb_views() WHERE view_name = ?", [view]))

    def table(self, query: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """Result as an Arrow table."""
        return self.connection.sql(query, params=list(parameters)).to_arrow_table()

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Result as dicts."""
        rows: list[dict[str, Any]] = self.table(query, parameters).to_pylist()
        return rows

    def ask(self, query: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """Result of a person's own query. ConfigError when it fails or is anything but one SELECT."""
        try:
            kinds = [statement.type for statement in duckdb.extract_statements(query)]
            if kinds == [duckdb.StatementType.SELECT]:
                return self.table(query, parameters)
        except duckdb.Error as error:
            raise ConfigError(f"the query failed: {error}") from None
        raise ConfigError(
            f"one SELECT is allowed here, found {', '.join(kind.name for kind in kinds) or 'nothing'}; for anything "
            f"else run plain DuckDB on {DATABASE}"
        )


def literal_pattern(path: str) -> str:
    """A path in which a pattern's characters stand for themselves."""
    return re.sub(r"([*?[])", r"[\1]", path)


def content_tag(ids: Iterable[str]) -> str:
    """Ten hex digits that name a set of samples: the same work has the same file name, so nothing can double."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:10]


def _create_views(connection: duckdb.DuckDBPyConnection, root: Path, prefix: str) -> None:
    recipe = root / "recipe.toml"
    captions = from_dict(CaptionConfig, read_toml(recipe).get("captions", {}) if recipe.is_file() else {})
    values = {
        "{root}": prefix.replace("'", "''"),
        "{prefer}": _place("caption_source", captions.prefer),
        "{languages}": _list(captions.languages),
        "{models}": _list(f"{source}={model}" for source, model in captions.requested()),
    }
    for name, query in VIEWS.items():
        if name in LATER and not (root / name).is_dir():
            continue
        filled = query
        for placeholder, value in values.items():
            filled = filled.replace(placeholder, value)
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {filled}")


def _place(column: str, values: Sequence[str]) -> str:
    """SQL for a column's place among values, from 1; NULL for another value."""
    whens = " ".join(f"WHEN {_text(value)} THEN {n}" for n, value in enumerate(values, 1))
    return f"CASE {column} {whens} END"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _list(values: Iterable[str]) -> str:
    """A SQL list of texts."""
    return f"[{', '.join(map(_text, values))}]::VARCHAR[]"
