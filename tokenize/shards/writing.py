"""Writing and verifying shards.

`tokens` is stored in BYTE_STREAM_SPLIT (ids below 2^18 leave two bytes of four nearly constant), pages carry checksums,
row groups are cut by tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.errors import DataError
from reelmill.tokenize.shards.format import (
    TOKENS_SCHEMA,
    UNREADABLE,
    Footer,
    read_footer,
    row_problems,
    with_later_columns,
)
from reelmill.tokenize.vocabulary import Vocabulary

_TOKENS_LEAF, _ANSWERS_LEAF = "tokens.list.element", "answers.list.element"
_STRINGS = [field.name for field in TOKENS_SCHEMA if field.type == pa.string()]
_SHORT = [*(name for name in TOKENS_SCHEMA.names if name not in ("tokens", "answers", "blocks")), _ANSWERS_LEAF]
_BLOCKS = [f"blocks.list.element.{name}" for name in ("kind", "start", "stop", "item_id", "start_s", "end_s")]


def write_shard(
    path: Path,
    rows: Sequence[Mapping[str, Any]] | pa.Table,
    vocab: Vocabulary,
    fingerprint: str,
    row_group_tokens: int = 2_000_000,
    *,
    tokenizer: str | None = None,
) -> None:
    """Write documents (rows as of `document_row`, or a table of TOKENS_SCHEMA) to a Parquet file.

    A row group ends before it would exceed `row_group_tokens`; a longer document has one of its own. No rows give a
    valid, empty shard. `tokenizer` is the vision tokenizer's fingerprint where `fingerprint` covers more than it. The
    file is written in place: pass the temporary path of `files.write_atomically`.
    Raises DataError, and leaves no file, where a row contradicts its tokens or is no document of `vocab`.
    """
    table = _as_table(rows)
    footer = Footer(fingerprint, vocab, fingerprint if tokenizer is None else tokenizer)
    problems = list(islice(row_problems(table, footer), 3))
    if problems:
        raise DataError(f"refused to write {path.name}: " + "; ".join(problems))
    with pq.ParquetWriter(
        path,
        TOKENS_SCHEMA.with_metadata(footer.to_metadata()),
        compression=dict.fromkeys([*_SHORT, *_BLOCKS], "zstd") | {_TOKENS_LEAF: "lz4"},
        use_dictionary=_STRINGS,
        column_encoding={_TOKENS_LEAF: "BYTE_STREAM_SPLIT"},
        write_statistics=_SHORT,
        write_page_checksum=True,
    ) as writer:
        for start, stop in _row_groups(table["n_tokens"].to_numpy(), row_group_tokens):
            writer.write_table(table.slice(start, stop - start), row_group_size=stop - start)


def verify_shard(path: Path, vocab: Vocabulary | None = None) -> list[str]:
    """All problems of a shard, in words; an empty list if there are none.

    Reads every page against its checksum, parses every document by the grammar, and compares each row's columns and the
    footer (and `vocab`, where given) with what the tokens say.
    """
    try:
        metadata, footer = read_footer(path)
        schema = metadata.schema.to_arrow_schema()
    except (DataError, *UNREADABLE) as error:
        return [str(error)]
    if vocab is not None and footer.vocab != vocab:
        return [f"{path}: written for {footer.vocab}, not {vocab}"]
    if not with_later_columns(schema.empty_table()).schema.equals(TOKENS_SCHEMA, check_metadata=False):
        return [f"{path}: the columns are not those of a token shard:\n{schema}"]
    problems: list[str] = []
    seen: Counter[str] = Counter()
    for group in range(metadata.num_row_groups):
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                table = file.read_row_group(group, use_threads=False)
            table.validate(full=True)
        except UNREADABLE as error:
            problems.append(f"{path}: row group {group} is damaged: {error}")
            continue
        seen.update(table["doc_id"].to_pylist())
        problems += [f"{path}: row group {group}: {problem}" for problem in row_problems(table, footer)]
    return problems + [f"{path}: doc_id {name} stands {count} times" for name, count in seen.items() if count > 1]


def _as_table(rows: Sequence[Mapping[str, Any]] | pa.Table) -> pa.Table:
    """The rows as a table of TOKENS_SCHEMA; DataError where they do not fit it."""
    if isinstance(rows, pa.Table):
        rows = with_later_columns(rows)
    names = set(TOKENS_SCHEMA.names)
    keys = [set(rows.column_names)] if isinstance(rows, pa.Table) else [set(row) for row in rows]
    for found in keys:
        if found != names:
            raise DataError(f"a token row lacks {sorted(names - found)} and has unknown {sorted(found - names)}")
    try:
        if isinstance(rows, pa.Table):
            table = rows.select(TOKENS_SCHEMA.names).cast(TOKENS_SCHEMA)
        else:
            columns = [pa.array([row[field.name] for row in rows], field.type) for field in TOKENS_SCHEMA]
            table = pa.table(columns, schema=TOKENS_SCHEMA)
        table.validate(full=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"rows do not fit the columns of a token shard: {error}") from error
    missing = [field.name for field in TOKENS_SCHEMA if not field.nullable and table[field.name].null_count]
    if missing:
        raise DataError(f"the columns {missing} of a token shard may not be NULL")
    return table


def _row_groups(n_tokens: npt.NDArray[np.int32], most: int) -> Iterator[tuple[int, int]]:
    """(start, stop) rows of each row group."""
    start, held = 0, 0
    for row, count in enumerate(n_tokens.tolist()):
        if row > start and held + count > most:
            yield start, row
            start, held = row, 0
        held += count
    if start < len(n_tokens):
        yield start, len(n_tokens)
