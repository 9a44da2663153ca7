"""An index over the token shards of a run folder: every document's place and size, and its tokens on demand."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reelmill.errors import DataError
from reelmill.files import changed_files
from reelmill.tokenize.shards.format import KINDS, TOKENS_SCHEMA, UNREADABLE, Footer, read_footer, with_later_columns
from reelmill.tokenize.shards.rowgroups import RowGroups

_NOT_INDEXED = ("tokens", "url", "uri", "caption_source", "fingerprint")
_INDEXED = [name for name in TOKENS_SCHEMA.names if name not in _NOT_INDEXED]
_ALWAYS = ("kind", "n_tokens", "n_vision")
_TOKENS_COLUMN = TOKENS_SCHEMA.names.index("tokens")
_CACHED_TOKENS = 16_000_000


Selection: TypeAlias = str | pa.Array | None
"""Samples whose documents to take: those that a named selection keeps, those of these sample_ids, or all."""


class ShardIndex:
    """The documents under `out/tokens`, in the order of file name and row; tokens are decoded when asked for.

    `fingerprint`: the tokenization whose shards to take, by its first digits; needed where there are several.
    `selection`: keep only documents whose sample is `kept` in `out/verdicts/SELECTION.parquet`, or is one of these.
    `row_groups`: where decoded row groups are kept; several indexes may share one. 64 MB of its own when not given.
    `columns`: the short columns to hold; all when not given.

    `paths` are the shards. NumPy arrays of one entry a document: `file` (an index into `paths`), `row_group`, `row` (in
    its row group), `n_tokens`, `n_vision`, `kind` (an index into KINDS), `row_group_id` (its row group, numbered
    through all shards). `row_group_tokens`: ids in each of these. `columns` is a pyarrow table with the short columns.
    Raises DataError where there are no shards, or shards of several vocabularies or tokenizations: the same id means
    different things in them, or a sample stands twice.
    """

    def __init__(
        self,
        out: Path,
        *,
        fingerprint: str | None = None,
        selection: Selection = None,
        row_groups: RowGroups | None = None,
        columns: Collection[str] | None = None,
    ) -> None:
        self.paths, self.footer, place, self.row_group_tokens = _survey(Path(out) / "tokens", fingerprint)
        _require_unchanged(Path(out), self.paths, selection if isinstance(selection, str) else None)
        wanted = set(_INDEXED if columns is None else columns)
        read = wanted | set(_ALWAYS) | ({"sample_id"} if selection is not None else set())
        table = pa.concat_tables([_short_columns(path, read) for path in self.paths])
        if selection is not None:
            ids = _kept(Path(out), selection) if isinstance(selection, str) else selection
            kept = np.flatnonzero(pc.is_in(table["sample_id"], value_set=ids).to_numpy())
            table, place = table.take(kept), place[:, kept]
        self.file, self.row_group, self.row, self.row_group_id = place
        self.n_tokens = table["n_tokens"].to_numpy()
        self.n_vision = table["n_vision"].to_numpy()
        self.kind = pc.index_in(table["kind"], value_set=pa.array(KINDS)).to_numpy().astype(np.int8)
        self.columns = table.select([name for name in table.column_names if name in wanted])
        self._names = [str(path) for path in self.paths]
        self._row_groups = row_groups or RowGroups(_CACHED_TOKENS)

    def __len__(self) -> int:
        return len(self.row)

    def strings(self, column: str) -> npt.NDArray[np.object_]:
        """A string column of `columns`, such as "item_id", as an array of str (None where NULL)."""
        values: npt.NDArray[np.object_] = self.columns[column].to_numpy()
        return values

    def read(self, indices: npt.ArrayLike) -> list[npt.NDArray[np.int32]]:
        """The tokens of documents, int32 [n_tokens] each, in the order asked for; page checksums are verified.

        Documents of one row group are decoded together. Raises DataError for a damaged or missing shard.
        """
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        documents: list[npt.NDArray[np.int32]] = [np.empty(0, dtype=np.int32)] * len(wanted)
        for slot in np.argsort(self.row_group_id[wanted], kind="stable"):
            documents[slot] = self.view(int(wanted[slot])).copy()
        return documents

    def view(self, index: int) -> npt.NDArray[np.int32]:
        """The tokens of one document, int32 [n_tokens], read-only and not copied: as long as it lives, so does its
        decoded row group. Raises DataError as `read` does.
        """
        flat, offsets = self._row_groups.get(self._names[self.file[index]], int(self.row_group[index]))
        row = self.row[index]
        return flat[offsets[row] : offsets[row + 1]]


def _require_unchanged(out: Path, paths: list[Path], selection: str | None) -> None:
    """DataError where a shard is gone, or is not the one that was written, by its size and time (then by its hash)."""
    within = {f"tokens/{path.parent.name}" for path in paths}
    if problems := changed_files(out, within | ({f"verdicts/{selection}.parquet"} if selection else set())):
        raise DataError(
            f"{out} is damaged: {problems[0]}{f' (and {len(problems) - 1} more)' * (len(problems) > 1)}; "
            f"`reelmill verify {out}` says what to do"
        )


def _survey(
    folder: Path, fingerprint: str | None
) -> tuple[list[Path], Footer, npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The shards of one tokenization, their common footer, places and sizes.

    Places are int32 [4, documents]: file, row group, row, row group id; sizes int64 [row groups], the ids of each.
    """
    paths: list[Path] = []
    places: list[npt.NDArray[np.int32]] = []
    sizes: list[int] = []
    footers: dict[Footer, Path] = {}
    for path in sorted(folder.glob("*/unit-*.parquet")):
        metadata, footer = read_footer(path)
        if fingerprint is not None and not footer.fingerprint.startswith(fingerprint):
            continue
        footers.setdefault(footer, path)
        groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        counts = [group.num_rows for group in groups]
        rows = np.concatenate([np.empty(0, dtype=np.int32), *map(np.arange, counts)])
        group = np.repeat(np.arange(len(groups)), counts)
        place = np.stack([np.full(len(group), len(paths)), group, rows, len(sizes) + group])
        places.append(place.astype(np.int32))
        sizes += [group.column(_TOKENS_COLUMN).num_values for group in groups]
        paths.append(path)
    if not footers:
        there = ", ".join(sorted(path.name for path in folder.glob("*") if path.is_dir())) or "none"
        wanted = "" if fingerprint is None else f" of fingerprint {fingerprint}"
        raise DataError(f"no token shards{wanted} under {folder} (there are: {there}); `reelmill curate` makes them")
    if len(footers) > 1:
        found = "; ".join(f"{footer.fingerprint} with {footer.vocab} in {path}" for footer, path in footers.items())
        raise DataError(
            f"the shards under {folder} are of several vision tokenizers, options or vocabularies, whose ids do not "
            f"mean the same: {found}. Name one fingerprint (training: --set data.fingerprint=…)."
        )
    return paths, next(iter(footers)), np.concatenate(places, axis=1), np.array(sizes, dtype=np.int64)


def _short_columns(path: Path, names: Collection[str]) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
            table = with_later_columns(parquet.read(columns=list(names), use_threads=False))
            return table.select([name for name in TOKENS_SCHEMA.names if name in names])
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read: {error}. Run `reelmill verify` on its run folder.") from error


def _kept(out: Path, selection: str) -> pa.ChunkedArray:
    """The sample_ids that a named selection keeps."""
    folder = out / "verdicts"
    path = folder / f"{selection}.parquet"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", selection) or not path.is_file():
        there = ", ".join(sorted(file.stem for file in folder.glob("*.parquet"))) or "none"
        raise DataError(f'no selection "{selection}" in {folder}; there are: {there}. `reelmill select` makes one.')
    try:
        verdicts = pq.read_table(path, columns=["sample_id", "status"], use_threads=False)
    except UNREADABLE as error:
        raise DataError(f"{path} is no table of verdicts: {error}") from error
    return verdicts["sample_id"].filter(pc.equal(verdicts["status"], "kept"))
