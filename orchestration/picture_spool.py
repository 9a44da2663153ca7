"""Pictures of key frames, kept from the pass that found them until documents are made: `pictures/unit-000123.parquet`.

A spool and no table of the ledger: whatever it lacks is decoded again, so nothing depends on it. The pictures have the
size of the tokens and are stored without loss, as differences of neighboring pixels. A run removes them at its end;
where it stops early they wait for the next one.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.errors import DataError
from reelmill.files import write_atomically
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.table_files import OpenTable

log = logging.getLogger(__name__)

Picture = npt.NDArray[np.uint8]
FOLDER = "pictures"
TOGETHER = 16
"""Pictures of a row group, at most: those of one item."""
_SCHEMA = pa.schema(
    {"item_id": pa.string(), "time_s": pa.float64(), "height": pa.int32(), "width": pa.int32(), "data": pa.binary()}
)


def drop_pictures(folder: RunFolder) -> None:
    """Remove all that are kept."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder.root / FOLDER)


class PictureSpool:
    """Takes the pictures of a unit, item by item; `commit` makes them visible, in place of what was there before."""

    def __init__(self, folder: RunFolder, unit: int) -> None:
        self._folder, self._path = folder, folder.unit_path(FOLDER, unit)
        self._temporary = self._path.parent / f".{self._path.name}.{uuid.uuid4().hex[:8]}.tmp"  # as `sweep` knows it
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[dict[str, Any]] = []
        self._is_given_up = False

    def add(self, item_id: str, time_s: float, picture: Picture) -> None:
        """Keep a picture [H, W, 3]. Where it cannot be written, on a full disk, the unit's pictures are given up."""
        if self._is_given_up:
            return
        if self._rows and (self._rows[0]["item_id"] != item_id or len(self._rows) == TOGETHER):
            self._flush()
        height, width = picture.shape[:2]
        differences = picture.copy()
        differences[:, 1:] -= picture[:, :-1]
        place = {"item_id": item_id, "time_s": time_s, "height": height, "width": width}
        self._rows.append({**place, "data": differences.tobytes()})

    def commit(self) -> None:
        """End the unit's pictures."""
        self._flush()
        try:
            if self._writer is not None:
                self._writer.close()
        except OSError as error:
            self._give_up(error)
        if self._writer is None:
            self._path.unlink(missing_ok=True)
            return

        def write(temporary: Path) -> None:
            self._temporary.replace(temporary)
            self._folder.check_epoch()

        write_atomically(self._path, write)

    def _flush(self) -> None:
        if not self._rows:
            return
        try:
            if self._writer is None:
                self._temporary.parent.mkdir(exist_ok=True)
                options = {"compression": "zstd", "use_dictionary": ["item_id"], "write_page_checksum": True}
                self._writer = pq.ParquetWriter(self._temporary, _SCHEMA, **options)
            self._writer.write_table(pa.Table.from_pylist(self._rows, _SCHEMA))
        except OSError as error:
            self._give_up(error)
        self._rows = []

    def _give_up(self, error: OSError) -> None:
        log.warning("pictures of key frames are not kept, and will be decoded again: %s", error)
        self._temporary.unlink(missing_ok=True)
        self._writer, self._is_given_up = None, True


def kept_pictures(
    folder: RunFolder, unit: int, item_id: str, times: Collection[float], size: tuple[int, int]
) -> Iterator[tuple[float, Picture]]:
    """Those pictures [H, W, 3] of an item that were kept of `times` in `size` (H, W), each once."""
    path: Path = folder.unit_path(FOLDER, unit)
    if not path.is_file():
        return
    left = set(times)
    try:
        for row in _rows_of(path, item_id):
            if row["time_s"] in left and (row["height"], row["width"]) == size:
                left.remove(row["time_s"])
                differences = np.frombuffer(row["data"], np.uint8).reshape(*size, 3)
                yield row["time_s"], np.cumsum(differences, axis=1, dtype=np.uint8)
    except DataError as error:
        log.warning("pictures of key frames are decoded again: %s", error)


def _rows_of(path: Path, item_id: str) -> Iterator[dict[str, Any]]:
    table = OpenTable(path)
    try:
        for group, (first, last) in enumerate(table.ranges("item_id")):
            if first <= item_id <= last:
                yield from table.read([group]).to_pylist()
    finally:
        table.close()
