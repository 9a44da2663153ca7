"""Preference pairs: Parquet files whose rows hold two whole documents with the same beginning, one of them preferred.

    FOLDER/pairs/NAME/*.parquet      or any folder that holds such files

Candidates keep the exact ids that were drawn and are never encoded again (Emu3, arXiv 2409.18869, section 2.5). The
footer is that of token shards, pages carry checksums, and what a row says is checked when it is written.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.errors import DataError
from reelmill.files import write_atomically
from reelmill.tokenize.documents import DocumentError, parse
from reelmill.tokenize.shards.format import UNREADABLE, Footer, read_footer, token_lists
from reelmill.tokenize.vocabulary import Vocabulary

Ids = npt.NDArray[np.int32]

_IDS = pa.list_(pa.field("element", pa.int32(), nullable=False))
PAIRS_SCHEMA = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("n_prompt", pa.int32(), nullable=False),
        pa.field("chosen", _IDS, nullable=False),
        pa.field("rejected", _IDS, nullable=False),
        pa.field("n_chosen", pa.int32(), nullable=False),
        pa.field("n_rejected", pa.int32(), nullable=False),
    ]
)
"""What every file has; further columns follow these and are carried along."""
_LISTS = ("chosen", "rejected")
_SHORT = [name for name in PAIRS_SCHEMA.names if name not in _LISTS]
_DERIVED = ("pair_id", "n_chosen", "n_rejected")


@dataclass(frozen=True, eq=False)
class Pair:
    """Two documents, int32 [tokens] each from BOS to EOS, whose first `n_prompt` tokens are the same."""

    pair_id: str
    prompt: str
    n_prompt: int
    chosen: Ids
    rejected: Ids


def pair_id(n_prompt: int, chosen: npt.ArrayLike, rejected: npt.ArrayLike) -> str:
    """32 hex digits of a pair's contents: what was computed for a pair holds wherever the pair lies."""
    digest = hashlib.blake2b(str(n_prompt).encode(), digest_size=16)
    for tokens in (chosen, rejected):
        ids = np.ascontiguousarray(tokens, dtype="<i4")
        digest.update(len(ids).to_bytes(8, "little") + ids.tobytes())
    return digest.hexdigest()


def pair_row(prompt: str, n_prompt: int, chosen: npt.ArrayLike, rejected: npt.ArrayLike, **more: Any) -> dict[str, Any]:
    """A row of PAIRS_SCHEMA with further columns."""
    both = [np.asarray(tokens, dtype=np.int32) for tokens in (chosen, rejected)]
    return {
        "pair_id": pair_id(n_prompt, *both),
        "prompt": prompt,
        "n_prompt": n_prompt,
        "chosen": both[0],
        "rejected": both[1],
        "n_chosen": len(both[0]),
        "n_rejected": len(both[1]),
        **more,
    }


def write_pairs(
    path: Path,
    rows: Sequence[Mapping[str, Any]] | pa.Table,
    footer: Footer,
    *,
    root: Path | None = None,
    row_group_tokens: int = 2_000_000,
) -> None:
    """Write pairs (rows as of `pair_row`, all with the same columns, or such a table) to a Parquet file at once.

    With `root`, the run folder that `path` lies in, its SHA-256 is kept there. A row group ends before it would exceed
    `row_group_tokens`. Raises DataError, and leaves no file, where a row is no pair (`pair_problems`).
    """
    table = _as_table(rows)
    problems = list(islice(pair_problems(table, footer.vocab), 3))
    if problems:
        raise DataError(f"refused to write {path.name}: " + "; ".join(problems))
    write_atomically(path, lambda temporary: _write(temporary, table, footer, row_group_tokens), root=root)


def pair_problems(table: pa.Table, vocab: Vocabulary, first_row: int = 0) -> Iterator[str]:
    """The problems of the rows of a table of PAIRS_SCHEMA, one sentence each that names the row.

    A pair is two well-formed documents of `vocab` with the same first `n_prompt` tokens, each followed by more than
    EOS, that are not the same. `first_row`: the number of the table's first row in its file.
    """
    columns = {name: table[name].to_pylist() for name in PAIRS_SCHEMA.names if name not in _LISTS}
    both = {name: _lists(table, name) for name in _LISTS}
    for index, name in enumerate(columns["pair_id"]):
        where = f"row {first_row + index} (pair {name}, prompt {_short(columns['prompt'][index])})"
        row = {column: values[index] for column, values in columns.items()}
        for problem in _problems_of(row, both["chosen"][index], both["rejected"][index], vocab):
            yield f"{where}: {problem}"


def verify_pairs(path: Path, vocab: Vocabulary | None = None) -> list[str]:
    """All problems of a file of pairs, in words; an empty list if there are none. Reads and parses all of it."""
    try:
        metadata, footer = read_footer(path)
        _check_columns(path, metadata)
    except (DataError, *UNREADABLE) as error:
        return [str(error)]
    if vocab is not None and footer.vocab != vocab:
        return [f"{path}: written for {footer.vocab}, not {vocab}"]
    problems: list[str] = []
    seen: Counter[str] = Counter()
    row = 0
    for group in range(metadata.num_row_groups):
        try:
            table = _read_group(path, group)
        except DataError as error:
            problems.append(str(error))
        else:
            seen.update(table["pair_id"].to_pylist())
            problems += [f"{path}: {problem}" for problem in pair_problems(table, footer.vocab, row)]
        row += metadata.row_group(group).num_rows
    return problems + [f"{path}: pair {name} stands {count} times" for name, count in seen.items() if count > 1]


class PairIndex:
    """The pairs in the Parquet files of some folders, by folder, file name and row; tokens are read when asked for.

    `columns` is a pyarrow table of the columns of PAIRS_SCHEMA but the tokens, `footer` what the files have in common.
    Raises DataError where a folder has no pairs, or the files are of several vocabularies or vision tokenizers.
    """

    def __init__(self, *folders: Path) -> None:
        self.paths = [path for folder in folders for path in _files(folder)]
        footers: dict[tuple[str, Vocabulary], Footer] = {}
        tables, self._places = [], []
        for number, path in enumerate(self.paths):
            metadata, footer = read_footer(path)
            short = _check_columns(path, metadata)
            footers.setdefault((footer.tokenizer, footer.vocab), footer)
            tables.append(_read(path, short))
            for group in range(metadata.num_row_groups):
                self._places += [(number, group, row) for row in range(metadata.row_group(group).num_rows)]
        if len(footers) > 1:
            found = "; ".join(f"{tokenizer[:12]}, {vocab}" for tokenizer, vocab in footers)
            raise DataError(
                f"the pairs of {_names(folders)} are of several vocabularies or vision tokenizers: {found}."
            )
        self.footer = next(iter(footers.values()))
        self.columns = pa.concat_tables([table.select(_SHORT) for table in tables])
        if not len(self):
            raise DataError(f"no pairs in {_names(folders)}: the files have no rows.")
        self._held: tuple[tuple[int, int], list[list[Ids]]] | None = None

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int) -> Pair:
        """A pair with its tokens, page checksums verified; DataError for a damaged or missing file."""
        number, group, row = self._places[index]
        if self._held is None or self._held[0] != (number, group):
            table = _read_group(self.paths[number], group)
            self._held = (number, group), [_lists(table, name) for name in _LISTS]
        chosen, rejected = (lists[row] for lists in self._held[1])
        short = {name: self.columns[name][index].as_py() for name in ("pair_id", "prompt", "n_prompt")}
        return Pair(**short, chosen=chosen, rejected=rejected)

    def name(self, index: int) -> str:
        """What a person finds a pair by: its id and file."""
        return f"pair {self.columns['pair_id'][index].as_py()} in {self.paths[self._places[index][0]]}"


def _files(folder: Path) -> list[Path]:
    folder = Path(folder)
    paths = sorted(folder.glob("*.parquet"))
    if (folder / "plan.parquet").is_file():
        raise DataError(
            f"{folder} is a run folder and has no preference pairs; `reelmill prefer sample`, `vote` and `build` make "
            "a folder of them"
        )
    if not paths:
        raise DataError(f"no pairs in {folder}: it has no *.parquet; `reelmill prefer build` writes them.")
    return paths


def _names(folders: Sequence[Path]) -> str:
    return ", ".join(map(str, folders))


def _problems_of(row: Mapping[str, Any], chosen: Ids, rejected: Ids, vocab: Vocabulary) -> Iterator[str]:
    n_prompt = row["n_prompt"]
    for name, tokens in zip(_LISTS, (chosen, rejected), strict=True):
        try:
            parse(vocab, tokens)
        except DocumentError as error:
            yield f"{name} is no document: {error}"
            return
        if not 1 <= n_prompt < len(tokens) or tokens[n_prompt] == vocab.eos:
            yield f"{name} has nothing after the prompt: {n_prompt} of its {len(tokens)} tokens are the prompt's"
            return
    differ = np.flatnonzero(chosen[:n_prompt] != rejected[:n_prompt])
    if len(differ):
        at = int(differ[0])
        yield (
            f"the prompts differ at token {at} of {n_prompt}: {vocab.name(int(chosen[at]))} in chosen, "
            f"{vocab.name(int(rejected[at]))} in rejected"
        )
    elif np.array_equal(chosen, rejected):
        yield "chosen and rejected are the same document"
    facts = dict(zip(_DERIVED, (pair_id(n_prompt, chosen, rejected), len(chosen), len(rejected)), strict=True))
    for column, fact in facts.items():
        if row[column] != fact:
            yield f"column {column} says {row[column]!r}, its tokens say {fact!r}"


def _write(path: Path, table: pa.Table, footer: Footer, row_group_tokens: int) -> None:
    leaves = [f"{name}.list.element" for name in _LISTS]
    others = [name for name in table.column_names if name not in _LISTS]
    with pq.ParquetWriter(
        path,
        table.schema.with_metadata(footer.to_metadata()),
        compression=dict.fromkeys(others, "zstd") | dict.fromkeys(leaves, "lz4"),
        use_dictionary=[name for name in others if table.schema.field(name).type == pa.string()],
        column_encoding=dict.fromkeys(leaves, "BYTE_STREAM_SPLIT"),
        write_statistics=others,
        write_page_checksum=True,
    ) as writer:
        size = table["n_chosen"].to_numpy().astype(np.int64) + table["n_rejected"].to_numpy()
        group = (np.cumsum(size) - size) // row_group_tokens
        for part in np.split(np.arange(len(size)), np.flatnonzero(np.diff(group)) + 1) if len(size) else ():
            writer.write_table(table.slice(int(part[0]), len(part)), row_group_size=len(part))


def _as_table(rows: Sequence[Mapping[str, Any]] | pa.Table) -> pa.Table:
    """The rows with the columns of PAIRS_SCHEMA first; DataError where they do not fit it."""
    if isinstance(rows, pa.Table):
        names = rows.column_names
    else:
        names = list(rows[0]) if rows else PAIRS_SCHEMA.names
        if any(set(row) != set(names) for row in rows):
            raise DataError("the rows of pairs have different columns; give all of them the same.")
    missing = [name for name in PAIRS_SCHEMA.names if name not in names]
    if missing:
        raise DataError(f"a row of pairs lacks {missing}; `pair_row` makes one.")
    more = [name for name in names if name not in PAIRS_SCHEMA.names]
    try:
        if isinstance(rows, pa.Table):
            known = rows.select(PAIRS_SCHEMA.names).cast(PAIRS_SCHEMA)
            extra = {name: rows[name] for name in more}
        else:
            columns = [pa.array([row[field.name] for row in rows], field.type) for field in PAIRS_SCHEMA]
            known = pa.table(columns, schema=PAIRS_SCHEMA)
            extra = {name: pa.array([row[name] for row in rows]) for name in more}
        for name, values in extra.items():
            known = known.append_column(name, values)
        known.validate(full=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"rows do not fit the columns of pairs: {error}") from error
    nulls = [field.name for field in PAIRS_SCHEMA if known[field.name].null_count]
    if nulls:
        raise DataError(f"the columns {nulls} of pairs may not be NULL")
    return known


def _check_columns(path: Path, metadata: pq.FileMetaData) -> list[str]:
    """The columns that are not tokens; DataError where those of PAIRS_SCHEMA are not all there."""
    schema = metadata.schema.to_arrow_schema()
    wrong = [f.name for f in PAIRS_SCHEMA if f.name not in schema.names or schema.field(f.name).type != f.type]
    if wrong:
        raise DataError(f"{path} is no file of pairs: its columns {wrong} are missing or of other types.")
    return [name for name in schema.names if name not in _LISTS]


def _read(path: Path, columns: list[str]) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns=columns, use_threads=False)
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read: {error}. Build its pairs again.") from error


def _read_group(path: Path, group: int) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read_row_group(group, use_threads=False)
        table.validate(full=True)
    except UNREADABLE as error:
        raise DataError(f"row group {group} of {path} is damaged: {error}. Build its pairs again.") from error
    return table


def _lists(table: pa.Table, name: str) -> list[Ids]:
    flat, offsets = token_lists(table[name])
    return [flat[start:stop] for start, stop in pairwise(offsets.tolist())]


def _short(text: str, most: int = 60) -> str:
    return repr(text if len(text) <= most else text[: most - 1] + "…")
