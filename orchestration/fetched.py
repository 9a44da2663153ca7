"""What was fetched, in the run folder: a unit's bytes in tars, and a row for each of its addresses.

    fetched/unit-000123.parquet      the rows; what lacks one is left to do
    fetched/unit-000123-TAG.tar      bytes, under names of no meaning

Rows are the commit mark: they are written after the tar that they name. A tar that no row names was left by a killed
writer, and goes. When bytes are replaced or forgotten, what else lies in their tar is copied into a new one first.
"""

from __future__ import annotations

import contextlib
import shutil
import tarfile
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from reelmill.curation.fetching.command import PREFIX
from reelmill.curation.ledger import FETCHES, FORGOTTEN
from reelmill.files import write_atomically
from reelmill.media.source import Source
from reelmill.orchestration.runfolder import FETCHED, RunFolder
from reelmill.orchestration.views import LedgerQueries, content_tag

REASON = "fetch_"
"""How the reason of an item begins that was not fetched; the keyword of its fetch follows."""


def rows_of(folder: RunFolder, unit: int) -> dict[str, dict[str, Any]]:
    """The unit's rows by item."""
    path = folder.unit_path(FETCHED, unit)
    return {row["item_id"]: row for row in folder.read(path).to_pylist()} if path.is_file() else {}


def resolved(folder: RunFolder, unit: int, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the plan with the places and kinds of bytes that were fetched; of others the problem says why not.

    `fetched_sha256` is that of the bytes, and `licence`, `fetched` what the fetch knows beside the table.
    """
    if all(item["url"] is None for item in items):
        return items
    rows = rows_of(folder, unit)
    return [_resolved(folder, item, rows[item["item_id"]]) if item["item_id"] in rows else item for item in items]


def _resolved(folder: RunFolder, item: dict[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    if item["problem"] is not None:
        return item
    if row["outcome"] != "fetched":
        return {**item, "problem": f"{REASON}{row['reason']}"}
    place = {"path": str(folder.root / FETCHED / row["tar"]), "offset": row["offset"], "size": row["bytes"]}
    said = {"fetched_sha256": row["sha256"], "licence": row["licence"], "fetched": row["fetched"]}
    return {**item, **place, **said, "member": None, "kind": row["kind"]}


def waiting_units(folder: RunFolder) -> set[int]:
    """Units with addresses of which nothing is known yet."""
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.rows("""SELECT DISTINCT unit FROM plan WHERE url IS NOT NULL AND problem IS NULL
            AND item_id NOT IN (SELECT item_id FROM fetches)""")
    return {row["unit"] for row in rows}


def outdated_units(folder: RunFolder) -> set[int]:
    """Units with items that were scored before what is known of their addresses now."""
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.rows(
            """SELECT DISTINCT i.unit FROM items i JOIN fetches f USING (item_id)
            WHERE NOT starts_with(coalesce(i.reason, ''), $1)
            AND (f.sha256 IS DISTINCT FROM i.sha256 OR (f.sha256 IS NULL AND i.reason <> concat($2, f.reason)))""",
            [FORGOTTEN, REASON],
        )
    return {row["unit"] for row in rows}


def sweep_tars(folder: RunFolder) -> None:
    """Remove what killed runs left: tars that no row names, and folders of programs."""
    for left in (folder.root / FETCHED).glob(f"{PREFIX}*"):
        shutil.rmtree(left)
    with LedgerQueries(folder.root) as ledger:
        named = {row["tar"] for row in ledger.rows("SELECT DISTINCT tar FROM fetches WHERE tar IS NOT NULL")}
    for path in (folder.root / FETCHED).glob("unit-*.tar"):
        if path.name not in named:
            folder.remove(path)


def forget_bytes(folder: RunFolder, unit: int, reasons: Mapping[str, str]) -> None:
    """Take out what was fetched of these items, and what their rows say."""
    writer = UnitWriter(folder, unit)
    known = reasons.keys() & writer.before.keys()
    if not known:
        return
    for item_id in known:
        buried: dict[str, Any] = dict.fromkeys(FETCHES.names)
        writer.note({**buried, "unit": unit, "item_id": item_id, "outcome": "refused", "reason": reasons[item_id]})
    writer.commit()


class UnitWriter:
    """New rows of a unit, with their bytes. Nothing is visible before `commit`; `discard` otherwise."""

    def __init__(self, folder: RunFolder, unit: int) -> None:
        self._folder, self._unit = folder, unit
        self.before = rows_of(folder, unit)
        self._rows: dict[str, dict[str, Any]] = {}
        self._staged = folder.root / FETCHED / f".unit-{unit:06d}.{uuid.uuid4().hex[:8]}.tmp"
        self._tar: tarfile.TarFile | None = None

    def add(self, row: Mapping[str, Any], suffix: str, file: IO[bytes]) -> None:
        """A row with its bytes, of which `file` has as many as the row says."""
        if self._tar is None:
            self._staged.parent.mkdir(exist_ok=True)
            self._tar = tarfile.open(self._staged, "w", format=tarfile.GNU_FORMAT)  # noqa: SIM115  (until commit)
        member = tarfile.TarInfo(f"{row['item_id']}{suffix}")
        member.size = row["bytes"]
        offset = self._tar.offset + tarfile.BLOCKSIZE
        file.seek(0)
        self._tar.addfile(member, file)
        self._rows[row["item_id"]] = {**row, "offset": offset, "tar": None}

    def note(self, row: Mapping[str, Any]) -> None:
        """A row without bytes, or with those that are here already."""
        self._rows[row["item_id"]] = dict(row)

    def commit(self) -> None:
        """Make tar and rows appear. MachineError when the disk is full or another driver has taken over."""
        self._take_along()
        name = self._commit_tar()
        rows = {**self.before, **self._rows}
        for item_id, row in self._rows.items():
            if row["outcome"] == "fetched" and row["tar"] is None:
                rows[item_id] = {**row, "tar": name}
        table = pa.Table.from_pylist([rows[item_id] for item_id in sorted(rows)], schema=FETCHES)
        self._folder.commit(self._folder.unit_path(FETCHED, self._unit), table)
        for tar in _tars(self.before.values()) - _tars(rows.values()):
            self._folder.remove(self._folder.root / FETCHED / tar)

    def discard(self) -> None:
        """Leave nothing."""
        if self._tar is not None:
            self._tar.close()
            self._staged.unlink(missing_ok=True)

    def _take_along(self) -> None:
        """Copy what stays of tars of which something goes."""
        going = {row["tar"] for id, row in self.before.items() if row["tar"] and not self._keeps(id, row)}
        for id, row in self.before.items():
            if row["tar"] in going and self._keeps(id, row):
                source = Source(str(self._folder.root / FETCHED / row["tar"]), row["offset"], row["bytes"])
                with source.open() as file:
                    self.add({**self._rows.get(id, row)}, "", file)

    def _keeps(self, item_id: str, row: Mapping[str, Any]) -> bool:
        """Whether the bytes of an earlier row stay."""
        return item_id not in self._rows or self._rows[item_id]["tar"] == row["tar"]

    def _commit_tar(self) -> str | None:
        if self._tar is None:
            return None
        self._tar.close()
        self._tar = None
        tag = content_tag(f"{id}|{row['sha256']}" for id, row in self._rows.items() if not row["tar"])
        path = self._folder.unit_path(FETCHED, self._unit, tag).with_suffix(".tar")

        def take(temporary: Path) -> None:
            self._folder.check_epoch()
            self._staged.replace(temporary)

        try:
            write_atomically(path, take, root=self._folder.root)
        finally:
            with contextlib.suppress(OSError):  # said already
                self._staged.unlink(missing_ok=True)
        return path.name


def _tars(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    return {row["tar"] for row in rows if row["tar"]}
