"""Take rows out of later tables: those of samples that are gone, and failures that are to be tried again.

Samples go, with the rows of their items' sound, when items are forgotten; or when a changed recipe cuts their video
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from reelmill.files import remove, write_atomically
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.table_files import write_table
from reelmill.orchestration.views import LedgerQueries
from reelmill.tokenize.shards import Footer, read_footer, write_shard
from reelmill.written_log import read_written

_REWRITTEN = ("captions", "judgements", "annotations", "failures", "embeddings")
_BY_SAMPLE, _BY_ITEM = (*_REWRITTEN, "tokens"), ("audio", "transcripts")
_LISTS = (*((table, "sample_id") for table in _BY_SAMPLE), *((table, "item_id") for table in _BY_ITEM))
_ORPHANS = f"""WITH known AS MATERIALIZED (SELECT DISTINCT sample_id, item_id FROM scored)
{
    " UNION ".join(
        f"SELECT '{column}' AS name, {column} AS id FROM {table} WHERE {column} NOT IN (SELECT {column} FROM known)"
        for table, column in _LISTS
    )
}"""


def prune(folder: RunFolder) -> int:
    """Remove orphaned rows, file by file, each whole or not at all; returns how many samples they belonged to."""
    _let_go_of_timings(folder)
    with LedgerQueries(folder.root) as ledger:
        found = ledger.table(_ORPHANS)
    orphans, items = (
        found.filter(pc.equal(found["name"], name))["id"].combine_chunks() for name in ("sample_id", "item_id")
    )
    for path in (path for table in _BY_ITEM if len(items) for path in (folder.root / table).glob("unit-*.parquet")):
        _rewrite(folder, path, items, write_table, "item_id")
    if not len(orphans):
        return 0
    for table in _REWRITTEN:
        for path in sorted((folder.root / table).glob("unit-*.parquet")):
            _rewrite(folder, path, orphans, write_table)
    for path in sorted((folder.root / "tokens").rglob("unit-*.parquet")):
        _rewrite(folder, path, orphans, partial(_write_tokens, footer=read_footer(path)[1]))
    return len(orphans)


def _let_go_of_timings(folder: RunFolder) -> None:
    """CPU times are measured once: a file of them that is gone is no longer missed."""
    for name in read_written(folder.root).files:
        path = folder.root / name
        if name.startswith("timings/") and not path.exists():
            remove(folder.root, path)


def drop_machine_failures(folder: RunFolder) -> None:
    """Forget the failures of later stages that were the machine's fault, so that their samples are tried again."""
    for path in sorted((folder.root / "failures").glob("unit-*.parquet")):
        table = folder.read(path)
        _replace(folder, path, table, table.filter(pc.not_equal(table["reason_class"], "machine")), write_table)


def _rewrite(
    folder: RunFolder,
    path: Path,
    orphans: pa.Array,
    write: Callable[[Path, pa.Table], None],
    column: str = "sample_id",
) -> None:
    table = folder.read(path)
    _replace(folder, path, table, table.filter(pc.invert(pc.is_in(table[column], value_set=orphans))), write)


def _replace(
    folder: RunFolder, path: Path, table: pa.Table, kept: pa.Table, write: Callable[[Path, pa.Table], None]
) -> None:
    if not len(kept):
        folder.remove(path)
    elif len(kept) < len(table):
        write_atomically(path, lambda temporary: write(temporary, kept), root=folder.root)


def _write_tokens(path: Path, table: pa.Table, footer: Footer) -> None:
    write_shard(path, table, footer.vocab, footer.fingerprint, tokenizer=footer.tokenizer)
