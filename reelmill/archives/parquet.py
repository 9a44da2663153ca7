"""Parquet: texts, media in cells (as `datasets` and img2dataset write them), or tables of addresses.

Rows are read in small batches. Members are numbered row by row, within a row column by column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.archives.columns import IMAGES, Meaning, meaning, said
from reelmill.archives.contract import CHUNK_BYTES, Archive, Member
from reelmill.archives.page_images import joined
from reelmill.archives.url_rows import address_row
from reelmill.errors import Refused, brief
from reelmill.media.containers import HEAD
from reelmill.media.kinds import suffix_of
from reelmill.media.source import Source

BATCH_ROWS = 16
MAX_COLUMNS = 2_000


class Parquet(Archive):
    """The rows of a file."""

    format = "parquet"

    def __init__(
        self, source: Source, media: list[str], cells: Meaning, columns: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(source)
        self._media, self._cells, self._columns = media, cells, columns
        texts, images = cells.pages or (None, None)
        self._wanted = media or [name for name in (cells.text or cells.address or texts,) if name]
        self._beside = [images] if images and not media else []

    def members(self, first: int = 0) -> Iterator[Member | None]:
        """As in the contract."""
        with self.source.open() as raw:
            try:
                file = pq.ParquetFile(raw)
                if not self._wanted:
                    self.pass_over(self._cells.counted_as or "", file.metadata.num_rows)
                    return
                yield from self._rows(file, first)
            except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
                raise Refused(f"corrupt_parquet: {brief(error)}") from None

    def _rows(self, file: pq.ParquetFile, first: int) -> Iterator[Member]:
        per_row = len(self._wanted)
        taken = [*self._wanted, *self._beside]
        columns = [*taken, *_plain_columns(file.schema_arrow, taken)]
        row = 0
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if (row + rows) * per_row <= first:
                row += rows
                continue
            for batch in file.iter_batches(BATCH_ROWS, [group], columns, use_threads=False):
                if (row + len(batch)) * per_row > first:
                    for place, values in enumerate(_values(batch)):
                        yield from self._of_row(values, (row + place) * per_row, first)
                row += len(batch)

    def _of_row(self, values: dict[str, Any], number: int, first: int) -> Iterator[Member]:
        row = number // len(self._wanted)
        if not self._media and self._cells.address is not None:
            decoded = {name: _decoded(value) for name, value in values.items()}
            yield address_row(row, f"{row:08d}", decoded, self._cells, self._columns)
            return
        rest = {name: _decoded(v) for name, v in values.items() if name not in (*self._wanted, *self._beside)}
        known = said(rest)
        if self._cells.pages:
            texts, urls = (values[name] for name in self._cells.pages)
            yield _page(number, f"{row:08d}", texts, urls, known)
            return
        for place, column in enumerate(self._wanted):
            if number + place < first:
                continue
            name = f"{row:08d}" if len(self._wanted) == 1 else f"{row:08d}/{column}"
            yield _cell(number + place, name, values[column], known, is_text=not self._media)


def parquet_of(source: Source, columns: Mapping[str, str] | None = None) -> Parquet | None:
    """The rows of a file, if its columns hold what is known. Raises Refused where its footer is broken."""
    with source.open() as raw:
        try:
            schema = pq.read_schema(raw)
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise Refused(f"corrupt_parquet: {brief(error)}") from None
    if len(schema) > MAX_COLUMNS:
        raise Refused(f"too_large: {len(schema)} columns, allowed {MAX_COLUMNS}")
    media = [column.name for column in schema if _may_hold_media(column.type)]
    found = meaning(schema.names, columns)
    if media:
        return Parquet(source, media, Meaning())
    return Parquet(source, [], found, columns) if found else None


def _cell(number: int, name: str, value: Any, known: dict[str, Any], *, is_text: bool) -> Member:
    if is_text:
        return Member(number, f"{name}.txt", iter([value or b""]), kind="text", known=known)
    data = value.get("bytes") if isinstance(value, dict) else value
    if not data:
        where = f": it names the file {value['path'][:100]!r}" if isinstance(value, dict) and value.get("path") else ""
        return Member(number, name, problem=f"no_bytes: the cell is empty{where}", kind="image", known=known)
    suffix = suffix_of(data[:HEAD])
    if suffix is None:
        return Member(number, name, problem=f"unknown_kind: it begins with {data[:12]!r}", kind="image", known=known)
    return Member(number, name + suffix, _chunks(data), known=known)


def _page(number: int, name: str, texts: Any, urls: Any, known: dict[str, Any]) -> Member:
    if not (isinstance(texts, list) and isinstance(urls, list)):
        return Member(number, f"{name}.txt", kind="text", problem="no_text: the row has no lists of texts and images")
    text, images = joined(texts, urls)
    return Member(
        number, f"{name}.txt", iter([text.encode("utf-8", "replace")]), kind="text", known={**known, IMAGES: images}
    )


def _values(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """A batch's rows as Python's values, texts as bytes: they need not be UTF-8, whatever the file says."""
    columns = {name: _raw(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _raw(column: pa.Array) -> list[Any]:
    types = pa.types
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_string(column.type):
        column = column.view(pa.binary())
    elif types.is_large_string(column.type):
        column = column.view(pa.large_binary())
    found: list[Any] = column.to_pylist()
    return found


def _decoded(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _chunks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def _may_hold_media(kind: pa.DataType) -> bool:
    """A binary column, or `datasets`' structure of bytes and path."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _plain_columns(schema: pa.Schema, wanted: list[str]) -> list[str]:
    """Columns with something that may be said of an item."""
    types = pa.types
    return [
        column.name
        for column in schema
        if column.name not in wanted
        and (
            types.is_string(column.type)
            or types.is_large_string(column.type)
            or types.is_dictionary(column.type)
            or types.is_integer(column.type)
            or types.is_floating(column.type)
            or types.is_list(column.type)
        )
    ]
