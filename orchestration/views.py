"""DuckDB over a run folder: the views that people query, and our own queries through the same views.

`reelmill.duckdb` holds them for any DuckDB, started anywhere: its paths begin with the folder's place when it was
written, or with the variable `run_folder` where a session sets one (the folder has moved). They show committed units
only. Our own connections see the same views, and no file outside the folder.

A table without rows has no files, and DuckDB makes no view over none: a view reads the table's empty file under
`schemas/` too, and its files only once there are some. So the database is written again when a table gets its
first or loses its last.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from reelmill.curation.captions.config import CaptionConfig
from reelmill.curation.captions.measures import MEASURES
from reelmill.curation.embeddings import EMBEDDINGS
from reelmill.curation.interleaving import InterleavedConfig
from reelmill.curation.ledger import (
    ALIKE,
    ANNOTATIONS,
    AUDIO,
    DUPLICATES,
    FETCHES,
    JUDGEMENTS,
    KEYFRAME,
    OF_THE_SCENE,
    OF_THE_TEXT,
    PAGE_IMAGE,
    TRANSCRIPTS,
    VERDICTS,
)
from reelmill.curation.rules import quoted
from reelmill.errors import ConfigError, DataError, MachineError, ReelmillError
from reelmill.files import write_atomically
from reelmill.orchestration.recipe import load_recipe
from reelmill.orchestration.runfolder import FETCHED, SCHEMAS, RunFolder
from reelmill.orchestration.spilling import ROWS, bound, remove_spilled, spill_folder
from reelmill.written_log import CHECKSUMS, read_written

DATABASE = "reelmill.duckdb"

PLACE = "run_folder"
_VERIFY = "`reelmill verify {root}` says what is wrong."

TABLES = {
    "plan": "plan.parquet",
    "fetches": f"{FETCHED}/*.parquet",
    **{
        name: f"{name}/*.parquet"
        for name in (
            *("items", "samples", "verdicts", "captions", "failures", "timings"),
            *("audio", "transcripts", "judgements", "annotations", "duplicates", "alike", "embeddings"),
        )
    },
    "tokens": "tokens/**/*.parquet",
}
"""The files of each table, in the run folder."""

_SPANS = """SELECT * FROM read_parquet({samples}, union_by_name = true)
            WHERE unit IN (SELECT DISTINCT unit FROM items)
            UNION ALL BY NAME SELECT NULL::{keyframe}[] AS keyframes, NULL::VARCHAR AS phash, NULL::VARCHAR AS minhash,
                NULL::VARCHAR AS thumbnail, NULL::VARCHAR AS embedding_model, NULL::VARCHAR AS span_alt,
                {since} WHERE false"""

VIEWS = {  # {table} is the table's files, a SQL list; {prefer}, {languages}, {beyond}, {models} are the recipe's
    "plan": """SELECT * FROM read_parquet({plan}, union_by_name = true)
        UNION ALL BY NAME SELECT NULL::VARCHAR AS url WHERE false""",
    "fetches": "SELECT * FROM read_parquet({fetches}, union_by_name = true)",
    "items": """SELECT * FROM read_parquet({items}, union_by_name = true)
        UNION ALL BY NAME SELECT NULL::{page_image}[] AS images, NULL::VARCHAR AS licence_from,
            NULL::VARCHAR AS copyright, NULL::BOOLEAN AS c2pa WHERE false""",
    "audio": "SELECT * EXCLUDE (unit) FROM read_parquet({audio}, union_by_name = true)",
    "transcripts": "SELECT * EXCLUDE (unit) FROM read_parquet({transcripts}, union_by_name = true)",
    "chosen_transcripts": """SELECT * EXCLUDE (place, best)
        FROM (SELECT *, min(place) OVER (PARTITION BY item_id) AS best
            FROM (SELECT *, {heard} AS place FROM transcripts WHERE problem IS NULL
                AND (item_id, sha256) IN (SELECT (item_id, sha256) FROM items)))
        WHERE place = best""",
    "alike": "SELECT * EXCLUDE (unit) FROM read_parquet({alike}, union_by_name = true)",
    "spans": _SPANS,
    "narrations": """SELECT sample_id, md5(concat_ws('|', said,
            [[k.time_s, k.scene_start_s, k.scene_end_s] FOR k IN keyframes IF k.problem IS NULL]::VARCHAR)) AS basis
        FROM spans LEFT JOIN (SELECT item_id,
                string_agg(concat_ws(' ', start_s, end_s, text), chr(10) ORDER BY segment) AS said
            FROM chosen_transcripts GROUP BY item_id) USING (item_id)""",
    "judgements": "SELECT * EXCLUDE (unit) FROM read_parquet({judgements}, union_by_name = true)",
    "chosen_judgements": """SELECT j.* FROM judgements j JOIN narrations USING (sample_id, basis)
        QUALIFY row_number() OVER (PARTITION BY sample_id, judge ORDER BY created DESC) = 1""",
    "scored": """WITH here AS ({spans}), words AS (SELECT item_id, language, logprob, lower(w.text) AS word,
                (w.start_s + w.end_s) / 2 AS said_s
            FROM (SELECT item_id, language, logprob, unnest(words) AS w FROM chosen_transcripts)),
        said AS (SELECT s.sample_id, w.language, word, logprob,
                word || ' ' || lead(word) OVER later || ' ' || lead(word, 2) OVER later
                AS three FROM here s JOIN words w ON w.item_id = s.item_id AND said_s >= s.start_s AND said_s < s.end_s
            WINDOW later AS (PARTITION BY s.sample_id ORDER BY said_s)),
        spoken AS (SELECT sample_id, count(*) AS n_words, mode(language) AS language,
            1 - count(DISTINCT three) / nullif(count(three), 0) AS words_repeated,
            entropy(word) / nullif(log2(count(*)), 0) AS words_entropy, exp(-avg(logprob)) AS speech_perplexity
            FROM said GROUP BY sample_id),
        judged AS (SELECT sample_id, any_value(value) FILTER (judge = 'speech') AS speech_score,
            any_value(value) FILTER (judge = 'talking_head') AS talking_head,
            any_value(value) FILTER (judge = 'frames') AS frames_score,
            any_value(value) FILTER (judge = 'agreement') AS speech_agreement,
            any_value(value) FILTER (judge = 'perplexity') AS text_perplexity
            FROM chosen_judgements GROUP BY sample_id),
        seen_again AS (SELECT sample_id, count(DISTINCT time_s) FILTER (other_item_id = item_id) AS repeated,
            count(DISTINCT time_s) FILTER (other_item_id <> item_id) AS elsewhere FROM alike GROUP BY sample_id),
        asked AS (SELECT item_id, bool_or(problem IS NULL) AS has_words,
                list(DISTINCT concat(source, '=', model)) AS sources FROM transcripts GROUP BY item_id),
        answered AS (SELECT item_id FROM asked WHERE has_words OR list_has_all(sources, {sources})
            UNION SELECT a.item_id FROM audio a LEFT JOIN asked USING (item_id)
            WHERE len({sources}) > 0 AND coalesce(len(a.speech), 0) = 0 AND a.problem IS NULL
                AND (NOT list_contains({sources}, 'subtitles=') OR list_contains(sources, 'subtitles=')))
        SELECT s.*, a.loudness, a.silence_share, a.speech_share, a.other_share,
            CASE WHEN h.item_id IS NOT NULL THEN coalesce(w.n_words, 0) END AS n_words,
            CASE WHEN h.item_id IS NOT NULL AND s.end_s > s.start_s THEN
                coalesce(w.n_words, 0) / (s.end_s - s.start_s) END AS words_per_s,
            w.language, w.words_repeated, w.words_entropy, w.speech_perplexity,
            CASE WHEN s.phash IS NOT NULL THEN coalesce(k.repeated, 0)
                / nullif(len([f FOR f IN s.keyframes IF f.problem IS NULL]), 0) END AS keyframes_repeated,
            CASE WHEN s.phash IS NOT NULL THEN coalesce(k.elsewhere, 0)
                / nullif(len([f FOR f IN s.keyframes IF f.problem IS NULL]), 0) END AS keyframes_elsewhere,
            j.speech_score, j.talking_head, j.frames_score, j.speech_agreement, j.text_perplexity
        FROM here s LEFT JOIN audio a ON a.item_id = s.item_id LEFT JOIN answered h ON h.item_id = s.item_id
        LEFT JOIN spoken w ON w.sample_id = s.sample_id LEFT JOIN seen_again k ON k.sample_id = s.sample_id
        LEFT JOIN judged j ON j.sample_id = s.sample_id""",
    "verdicts": """SELECT * EXCLUDE (filename),
        regexp_extract(filename, '([^/\\\\]+)[.]parquet$', 1) AS selection
        FROM (SELECT * FROM read_parquet({verdicts}, filename = true, union_by_name = true)
            UNION ALL BY NAME {decided})""",
    "embeddings": "SELECT * EXCLUDE (unit) FROM read_parquet({embeddings}, union_by_name = true)",
    "duplicates": "SELECT * FROM read_parquet({duplicates}, union_by_name = true)",
    "captions": """SELECT * EXCLUDE (unit) REPLACE (CASE WHEN problem IS NOT NULL THEN problem
        WHEN len({languages}) > 0 AND language NOT IN {languages} THEN 'wrong_language' {beyond} END AS problem)
        FROM (SELECT * FROM read_parquet({captions}, union_by_name = true) UNION ALL BY NAME {measured})""",
    "chosen_captions": """SELECT sample_id, arg_min(caption, place) AS caption,
            arg_min(caption_source, place) AS caption_source
        FROM (SELECT *, (2 * {prefer} + (model IS NOT NULL AND
            NOT list_contains({models}, caption_source || '=' || model))::BIGINT) * (1::BIGINT << 52)
            - epoch_us(created) AS place FROM captions WHERE problem IS NULL)
        WHERE place IS NOT NULL GROUP BY sample_id""",
    "keyframes": """SELECT k.*, a.repeats_s, coalesce(a.other_videos, 0) AS other_videos
        FROM (SELECT item_id, sample_id, unnest(k)
            FROM (SELECT item_id, sample_id, unnest(keyframes) AS k FROM scored)) k
        LEFT JOIN (SELECT sample_id, time_s, min(other_time_s) FILTER (other_item_id = item_id) AS repeats_s,
                count(DISTINCT other_item_id) FILTER (other_item_id <> item_id) AS other_videos
            FROM alike GROUP BY ALL) a USING (sample_id, time_s)""",
    "samples": """SELECT s.* EXCLUDE (thumbnail, minhash, span_alt), v.status, v.stage, v.rule, v.value, v.threshold,
        v.duplicate_of, v.duplicate_cluster, v.duplicate_similarity, v.duplicate_method, v.duplicate_reason,
        v.second_chance, c.caption, c.caption_source, i.uri, i.source, i.licence, i.url,
        coalesce(s.span_alt, i.alt) AS alt
        FROM scored s JOIN items i USING (item_id)
        LEFT JOIN verdicts v ON v.sample_id = s.sample_id AND v.selection = 'default'
        LEFT JOIN chosen_captions c ON c.sample_id = s.sample_id""",
    "annotations": "SELECT * EXCLUDE (unit) FROM read_parquet({annotations}, union_by_name = true)",
    "chosen_annotations": """SELECT a.* FROM annotations a JOIN narrations USING (sample_id, basis)
        WHERE problem IS NULL QUALIFY fingerprint = arg_max(fingerprint, created) OVER (PARTITION BY sample_id)""",
    "page_images": """WITH listed AS (SELECT item_id, unnest(images) AS image,
            unnest(range(1, len(images) + 1)) AS number FROM items WHERE images IS NOT NULL),
        held AS (SELECT url, arg_min(item_id, uri) AS held_id FROM items WHERE kind = 'image' GROUP BY url),
        found AS (SELECT h.url, coalesce(s.duplicate_of, h.held_id) AS image_id FROM held h
            LEFT JOIN samples s ON s.item_id = h.held_id),
        shown AS (SELECT coalesce(image_id, image.url) AS what, count(DISTINCT item_id) AS pages
            FROM listed LEFT JOIN found ON url = image.url GROUP BY ALL)
        SELECT l.item_id, l.number, image.position AS position, image.url AS url, image.alt AS alt, f.image_id,
            s.sample_id AS image_sample_id, s.width, s.height, CASE
            WHEN regexp_matches(lower(image.url), {decorations}) THEN 'decoration'
            WHEN pages > {max_pages} THEN 'repeated'
            WHEN f.image_id IS NULL THEN 'not_in_dump'
            WHEN s.sample_id IS NULL THEN 'refused'
            WHEN least(s.width, s.height) < {min_side} THEN 'tiny'
            WHEN greatest(s.width, s.height) > {max_ratio} * least(s.width, s.height) THEN 'odd_ratio'
            WHEN s.status IS DISTINCT FROM 'kept' THEN coalesce(s.rule, s.status, 'undecided')
            END AS left_out
        FROM listed l LEFT JOIN found f ON f.url = image.url
        JOIN shown ON what = coalesce(f.image_id, image.url) LEFT JOIN samples s ON s.item_id = f.image_id""",
    "failures": "SELECT * EXCLUDE (unit) FROM read_parquet({failures}, union_by_name = true)",
    "tokens": "SELECT * FROM read_parquet({tokens}, union_by_name = true)",
    "timings": "SELECT * FROM read_parquet({timings}, union_by_name = true)",
}
LATER = {"plan", "timings"}
"""Tables without which a folder may be: one before its first plan, an imported one, one of an earlier version."""
EMPTY = {
    "audio": AUDIO,
    "transcripts": TRANSCRIPTS,
    "annotations": ANNOTATIONS,
    "duplicates": DUPLICATES,
    "embeddings": EMBEDDINGS,
    "fetches": FETCHES,
    "alike": ALIKE,
    "judgements": JUDGEMENTS,
    "chosen_judgements": JUDGEMENTS,
}
"""Views that others join: without files they have no rows, also in a folder of an earlier version."""
CHEAP = {"alike": "alike", "judgements": "judgements", "chosen_judgements": "judgements"}
"""Of those the ones that most runs have no rows of, and their tables: an empty file is not even opened."""


class Database:
    """`reelmill.duckdb` of a run folder while a driver writes to it."""

    def __init__(self, root: Path) -> None:
        self._root, self._shown = root, frozenset[str]()

    def write(self) -> None:
        """Write it anew."""
        self._shown = self._filled()
        write_database(self._root)

    def refresh(self) -> None:
        """Write it again if a table has got its first file since the last time, or lost its last one."""
        if self._filled() != self._shown:
            self.write()

    def show_first_files(self) -> None:
        """Write it again if a table has got its first file. Cheap; for while a stage runs, which removes none."""
        if any(_has_files(self._root, table) for table in TABLES if table not in self._shown):
            self.write()

    def _filled(self) -> frozenset[str]:
        return frozenset(table for table in TABLES if _has_files(self._root, table))


def write_database(root: Path, place: Path | None = None) -> None:
    """Write `reelmill.duckdb` anew: its views depend on the recipe, the folder's place and which tables have files.

    `place`: where the folder will be, if not at `root`.
    """

    def write(temporary: Path) -> None:
        try:
            connection = duckdb.connect(str(temporary))
            connection.execute(f"SET VARIABLE {PLACE} = {quoted(literal_pattern(str(root)))}")
        except duckdb.Error as error:
            raise MachineError(
                f"cannot write {root / DATABASE}: {error}. Mend that, then run the same command again."
            ) from error
        there = quoted(literal_pattern(str(place or root)))
        with connection:
            try:
                for query in _view_queries(root, f"coalesce(getvariable('{PLACE}'), {there})").values():
                    connection.execute(query)
            except duckdb.Error as error:
                raise _unreadable(root, error) from None

    write_atomically(root / DATABASE, write)


@contextlib.contextmanager
def _interrupted_after(connection: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    """End what the connection does after so many seconds; 0: never."""
    timer = threading.Timer(seconds, connection.interrupt)
    if seconds:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _confine(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Let a connection read this folder, nothing else."""
    # a pattern must lie in an allowed directory as it is written, a file as it is named
    connection.execute("SET allowed_directories = [?, ?]", [f"{root}/", literal_pattern(f"{root}/")])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def database_problems(root: Path) -> list[str]:
    """What is wrong with `reelmill.duckdb`: it is opened, and each of its views is counted."""
    if not (root / DATABASE).is_file():
        return []
    try:
        with duckdb.connect(str(root / DATABASE), read_only=True) as views:
            views.execute(f"SET VARIABLE {PLACE} = {quoted(literal_pattern(str(root)))}")
            _confine(views, root)
            for (name,) in views.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall():
                views.execute(f"SELECT count(*) FROM {name}").fetchall()
    except duckdb.Error as error:
        return [f"{DATABASE}: {str(error).splitlines()[0]}; remove it, and the next `reelmill curate` writes it anew"]
    return []


class LedgerQueries:
    """A locked-down connection to a run folder's views: reads this folder, nothing else, and writes nothing.

    A view is made when a query first names it: DuckDB opens its files then, and again for each view that reads it.
    """

    def __init__(self, root: Path, memory: str = "") -> None:
        """`memory`: what a query may take, beyond which it spills into the folder; without it four fifths of all."""
        self._root = root
        self._spilled = spill_folder(root)
        self._lacking = _view_queries(root, quoted(literal_pattern(str(root))))
        self._names = frozenset(self._lacking)
        self._connection = duckdb.connect(":memory:")
        if memory:
            bound(self._connection, memory, self._spilled)
        _confine(self._connection, root)

    def __enter__(self) -> LedgerQueries:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        remove_spilled(self._spilled)

    def has(self, view: str) -> bool:
        """Whether the folder has this table; one made by an earlier version may lack a later one."""
        return view in self._names

    def connection(self, *views: str) -> duckdb.DuckDBPyConnection:
        """The connection itself, with these views. DataError where their tables are damaged, MachineError elsewhere."""
        named, wanted = {*views}, []
        for name, query in reversed(self._lacking.items()):  # each reads only those before it
            if name in named:
                wanted.append(name)
                named |= _words(query)
        try:
            for name in reversed(wanted):
                self._connection.execute(self._lacking.pop(name))
        except duckdb.Error as error:
            raise _unreadable(self._root, error) from None
        return self._connection

    def table(self, query: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """Result as an Arrow table. DataError where the tables are damaged, MachineError where they cannot be read."""
        connection = self.connection(*_words(query))
        try:
            return connection.sql(query, params=list(parameters)).to_arrow_table()
        except duckdb.Error as error:
            raise _unreadable(self._root, error) from None

    def batches(self, query: str, parameters: Sequence[Any] = ()) -> Iterator[pa.RecordBatch]:
        """Result a part at a time; errors as of `table`."""
        connection = self.connection(*_words(query))
        try:
            yield from connection.sql(query, params=list(parameters)).to_arrow_reader(ROWS)
        except duckdb.Error as error:
            raise _unreadable(self._root, error) from None

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Result as dicts."""
        rows: list[dict[str, Any]] = self.table(query, parameters).to_pylist()
        return rows

    def ask(self, query: str, parameters: Sequence[Any] = (), timeout_s: float = 0.0) -> pa.Table:
        """Result of a user's own query, which may take `timeout_s` seconds where that is not 0.

        ConfigError when it fails, takes longer, or is anything but one SELECT.
        """
        connection = self.connection(*self._names)
        try:
            kinds = [statement.type for statement in duckdb.extract_statements(query)]
            if kinds == [duckdb.StatementType.SELECT]:
                with _interrupted_after(connection, timeout_s):
                    return connection.sql(query, params=list(parameters)).to_arrow_table()
        except duckdb.InterruptException:
            raise ConfigError(f"the query took longer than {timeout_s:g} s and was ended (--timeout)") from None
        except duckdb.Error as error:
            raise ConfigError(f"the query failed: {error}") from None
        raise ConfigError(
            f"one SELECT is allowed here, found {', '.join(kind.name for kind in kinds) or 'nothing'}; for anything "
            f"else run plain DuckDB on {DATABASE}"
        )


def _unreadable(root: Path, error: duckdb.Error) -> ReelmillError:
    message = str(error).splitlines()[0]
    if "disabled by configuration" in message and (links := [path for path in root.rglob("*") if path.is_symlink()]):
        return DataError(
            f"{root} cannot be queried: {', '.join(str(path.relative_to(root)) for path in sorted(links)[:3])} is a "
            "link, and queries read this folder alone; put what it leads to in its place, or move the whole folder and "
            "link to that"
        )
    kind = MachineError if isinstance(error, duckdb.IOException) and "ermission denied" in message else DataError
    return kind(f"{root} cannot be queried: {message}. {_VERIFY.format(root=root)}")


def literal_pattern(path: str) -> str:
    """A path in which a pattern's characters stand for themselves."""
    return re.sub(r"([*?[])", r"[\1]", path)


def content_tag(ids: Iterable[str]) -> str:
    """Ten hex digits that name a set of samples: the same work has the same file name, so nothing can double."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:10]


def _has_files(root: Path, table: str) -> bool:
    return any(root.glob(TABLES[table]))


def _view_queries(root: Path, place: str) -> dict[str, str]:
    """What makes each view that the folder can have, in the order of `VIEWS`. `place`: SQL for the folder's path."""
    recipe = load_recipe(root) if RunFolder(root).exists() else None
    captions = recipe.captions if recipe else CaptionConfig()
    interleaved = recipe.tokens.interleaved if recipe else InterleavedConfig()
    heard = [f"{source}={model}" for source, model in recipe.transcripts.requested()] if recipe else []
    values = {
        "{spans}": _SPANS,
        "{prefer}": _place("caption_source", captions.prefer),
        "{heard}": _place("concat(source, '=', model)", heard),
        "{sources}": _list(heard),
        "{keyframe}": _duckdb_type(KEYFRAME),
        "{page_image}": _duckdb_type(PAGE_IMAGE),
        "{decorations}": quoted(interleaved.decorations),
        **{f"{{{name}}}": repr(getattr(interleaved, name)) for name in ("max_pages", "min_side", "max_ratio")},
        "{since}": ", ".join(f"NULL::{kind} AS {name}" for name, kind in {**OF_THE_SCENE, **OF_THE_TEXT}.items()),
        "{decided}": empty_sql(VERDICTS),
        "{languages}": _list(captions.languages),
        "{beyond}": " ".join(
            f"WHEN {bound.beyond_sql(name)} THEN {quoted(name)}" for name, bound in captions.bounds.items()
        ),
        "{measured}": f"SELECT {', '.join(f'NULL::DOUBLE AS {name}' for name in MEASURES)} WHERE false",
        "{models}": _list(f"{source}={model}" for source, model in captions.requested()),
    }
    files = {table: _files(root, table) for table in TABLES}
    for table, paths in files.items():
        values[f"{{{table}}}"] = f"[{', '.join(f'{place} || {quoted(path)}' for path in paths)}]"
    queries = {}
    for name, query in VIEWS.items():
        if name in LATER and not files[name]:
            continue
        is_empty = not _has_files(root, CHEAP[name]) if name in CHEAP else name in EMPTY and not files[name]
        filled = empty_sql(EMPTY[name]) if is_empty else query
        for placeholder, value in values.items():
            filled = filled.replace(placeholder, value)
        queries[name] = f"CREATE OR REPLACE VIEW {name} AS {filled}"
    return queries


def _words(query: str) -> set[str]:
    """The words of a query; those that name views are among them."""
    return set(re.findall(r"\w+", query.lower()))


def _files(root: Path, table: str) -> list[str]:
    """What a view of the table reads, under the run folder: its empty file, and its files where there are some."""
    if not _has_files(root, table) and _had_files(root, table):
        raise DataError(f"{root} cannot be queried: the files of {table} are gone. {_VERIFY.format(root=root)}")
    empty = f"{SCHEMAS}/{table}.parquet"
    found = [empty] if (root / empty).is_file() else []
    return [f"/{path}" for path in (*found, *([TABLES[table]] if _has_files(root, table) else []))]


def _had_files(root: Path, table: str) -> bool:
    """Whether files of a table were written. A checksum alone may be that of a writer who was killed before its file
    had its name; folders of earlier versions have no log that would tell."""
    folder = TABLES[table].partition("/")[0]
    if not any((root / CHECKSUMS / folder).rglob("*.parquet.sha256")):
        return False
    written = read_written(root).files
    return not written or any(name.startswith(f"{folder}/") and name.endswith(".parquet") for name in written)


def empty_sql(schema: pa.Schema) -> str:
    """A query without rows that has these columns but `unit`."""
    columns = [f"NULL::{_duckdb_type(field.type)} AS {field.name}" for field in schema if field.name != "unit"]
    return f"SELECT {', '.join(columns)} WHERE false"


_PLAIN = {
    **{"string": "VARCHAR", "double": "DOUBLE", "halffloat": "FLOAT"},
    **{"int32": "INTEGER", "int64": "BIGINT", "bool": "BOOLEAN"},
}


def _duckdb_type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"{_duckdb_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return f"STRUCT({', '.join(f'{field.name} {_duckdb_type(field.type)}' for field in kind)})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ"
    return _PLAIN[str(kind)]


def _place(column: str, values: Sequence[str]) -> str:
    """SQL for a column's place among values, from 1; NULL for another value."""
    if not values:
        return "NULL::BIGINT"
    whens = " ".join(f"WHEN {quoted(value)} THEN {n}" for n, value in enumerate(values, 1))
    return f"CASE {column} {whens} END"


def _list(values: Iterable[str]) -> str:
    """A SQL list of texts."""
    return f"[{', '.join(map(quoted, values))}]::VARCHAR[]"
