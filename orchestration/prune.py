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

from reelmill.curation.ledger import write_table
from reelmill.files import write_atomically
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.tokenize.shards import Footer, read_footer, write_shard

_ORPHANS = " UNION ".join(
    f"SELECT sample_id FROM {table} WHERE sample_id NOT IN (SELECT sample_id FROM scored)"
    for table in ("captions", "failures", "tokens")
)


_BY_ITEM = ("audio", "transcripts")
_OF_NO_ITEM = " UNION ".join(
    f"SELECT item_id FROM {table} WHERE item_id NOT IN (SELECT item_id FROM scored)" for table in _BY_ITEM
)


def prune(folder: RunFolder) -> int:
    """Remove orphaned rows, file by file, each whole or not at all; returns how many samples they belonged to."""
    with LedgerQueries(folder.root) as ledger:
        orphans = ledger.table(_ORPHANS)["sample_id"].combine_chunks()
        items = ledger.table(_OF_NO_ITEM)["item_id"].combine_chunks()
    for path in (path for table in _BY_ITEM if len(items) for path in (folder.root / table).glob("unit-*.parquet")):
        _rewrite(folder, path, items, write_table, "item_id")
    if not len(orphans):
        return 0
    for table in ("captions", "failures"):
        for path in sorted((folder.root / table).glob("unit-*.parquet")):
            _rewrite(folder, path, orphans, write_table)
    for path in sorted((folder.root / "tokens").rglob("unit-*.parquet")):
        _rewrite(folder, path, orphans, partial(_write_tokens, footer=read_footer(path)[1]))
    return len(orphans)


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
