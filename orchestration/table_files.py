"""How a table of the ledger is written to a Parquet file and read back: page checksums, no empty row group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.errors import DataError
from reelmill.os_errors import os_failure


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet with page checksums (zstd). No row group is empty: some readers fall over one."""
    with pq.ParquetWriter(path, table.schema, compression="zstd", write_page_checksum=True) as writer:
        if len(table):
            writer.write_table(table)


def write_batches(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """As `write_table`, of rows that are never all in memory: a row group a batch."""
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        for batch in batches:
            if len(batch):
                writer.write_batch(batch.cast(schema))


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet table, or some columns, page checksums verified.

    DataError where it is damaged, MachineError where the disk is.
    """
    with _damage(path):
        return pq.read_table(path, columns=columns, page_checksum_verification=True)


def check_table(path: Path) -> None:
    """Read a Parquet table through and keep nothing; errors as of `read_table`."""
    with _damage(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        for _ in file.iter_batches():
            pass


class OpenTable:
    """A Parquet table that is read a part at a time; errors as of `read_table`. Close it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _damage(path):
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
        self.names: list[str] = self._file.schema_arrow.names
        self.rows: int = self._file.metadata.num_rows

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def ranges(self, column: str) -> list[tuple[Any, Any]]:
        """The least and the greatest value of a column in each row group."""
        metadata, place = self._file.metadata, self.names.index(column)
        groups = [metadata.row_group(group).column(place).statistics for group in range(metadata.num_row_groups)]
        return [(found.min, found.max) for found in groups]

    def groups_with(self, first: int, stop: int) -> tuple[list[int], int]:
        """The row groups that hold rows `first` to `stop`, and how many rows lie before them."""
        groups: list[int] = []
        at = before = 0
        for group in range(self._file.metadata.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            if at < stop and first < at + count:
                before = before if groups else at
                groups.append(group)
            at += count
        return groups, before

    def read(self, groups: list[int]) -> pa.Table:
        """These row groups."""
        with _damage(self._path):
            return self._file.read_row_groups(groups, use_threads=False)

    def batches(self, columns: list[str]) -> Iterator[pa.Table]:
        """All rows, these columns, a batch at a time."""
        parts = self._file.iter_batches(columns=columns, use_threads=False)
        while True:
            with _damage(self._path):
                part = next(parts, None)
            if part is None:
                return
            yield pa.Table.from_batches([part])


def read_schema(path: Path) -> pa.Schema:
    """The schema of a Parquet table; errors as of `read_table`."""
    with _damage(path):
        return pq.read_schema(path)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise os_failure(error, f"cannot read {path}") from None
        words = "it is gone" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise DataError(f"{path} is damaged: {words}; `reelmill verify` on the run folder says what else is") from None
