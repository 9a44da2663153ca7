"""The run folder OUT: its layout, its lock and epoch, commits, and the recipe it was made with.

    recipe.toml run.json plan.parquet
    fetched/                       bytes of addresses in tars, and what became of each address
    items/unit-000000.parquet      the commit mark of a unit; written after its samples/ and embeddings/
    samples/ captions/ tokens/     tables by unit
    verdicts/NAME.parquet          one row per sample
    checksums/                     SHA-256 beside every table
    schemas/                       an empty file of each table: its columns, before there are rows
    reelmill.duckdb                views

Only one driver writes at a time (`lock`). Each driver has an epoch; a worker left over from a killed driver finds
another epoch in the folder and does not commit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from reelmill.errors import ConfigError, DataError, MachineError
from reelmill.files import changed_files, damaged_files, remove, sweep, write_atomically, write_text
from reelmill.locks import lock
from reelmill.media.source import Place, Source
from reelmill.orchestration.places import PLACES, Places
from reelmill.orchestration.planned import PlanReader, require_columns, with_later_columns
from reelmill.orchestration.repair import damage_error
from reelmill.orchestration.table_files import check_table, read_schema, read_table, write_batches, write_table
from reelmill.os_errors import os_failure

FETCHED = "fetched"
"""The folder of what was fetched (`orchestration/fetched.py`)."""
TABLES = (
    *(FETCHED, "items", "samples", "captions", "failures", "tokens", "verdicts", "timings"),
    *("audio", "transcripts", "judgements", "annotations", "duplicates", "alike", "embeddings"),
)
SCHEMAS = "schemas"
READ = frozenset({*TABLES, SCHEMAS, "plan.parquet", "recipe.toml", "run.json"} - {"timings"})
"""What commands that read look at; without `timings`, which nothing makes anew."""


class StaleEpoch(MachineError):
    """Another driver has taken the run folder over."""


class RunFolder:
    """Paths and commits of one run folder. Cheap to make; workers make their own with their driver's `epoch`."""

    def __init__(self, root: Path, epoch: int | None = None) -> None:
        self.root = root.resolve()
        self._epoch = epoch

    @property
    def epoch(self) -> int:
        """This driver's number; only inside `lock`, or as given to a worker."""
        if self._epoch is None:
            raise DataError("a run folder is written under its lock only")
        return self._epoch

    @property
    def plan_path(self) -> Path:
        """The plan: one row per item."""
        return self.root / "plan.parquet"

    @property
    def recipe_path(self) -> Path:
        """The effective recipe."""
        return self.root / "recipe.toml"

    def exists(self) -> bool:
        """Whether this is a run folder already."""
        return self.recipe_path.is_file()

    def require(self) -> RunFolder:
        """This folder, if it is a run folder; DataError otherwise."""
        if not self.exists():
            raise DataError(f"{self.root} is no run folder: it holds no recipe.toml. Make one with `reelmill curate`.")
        return self

    def require_sound(self, every_byte: bool = False, but: str = "") -> RunFolder:
        """This folder, if it is one in which no file is gone or changed; DataError names the file and its cure.

        Sizes and times are compared with those that were noted, and what differs is hashed: milliseconds. `every_byte`:
        all is hashed. `but` names a file that does not count. A folder that was published has no plan.
        """
        self.require()
        within = READ if self.plan_path.is_file() else READ - {self.plan_path.name}
        problems = self.damaged() if every_byte else changed_files(self.root, within)
        if problems := [problem for problem in problems if not (but and problem.startswith(f"{but}: "))]:
            raise damage_error(self.root, problems)
        return self

    def unit_path(self, table: str, unit: int, tag: str = "") -> Path:
        """`items/unit-000123.parquet`, or `captions/unit-000123-TAG.parquet`."""
        return self.root / table / f"unit-{unit:06d}{'-' if tag else ''}{tag}.parquet"

    def commit(self, path: Path, table: pa.Table) -> None:
        """Make `path` appear whole, with its checksum; StaleEpoch when another driver has taken over."""

        def write(temporary: Path) -> None:
            write_table(temporary, table)
            self.check_epoch()

        write_atomically(path, write, root=self.root)

    def commit_batches(self, path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """As `commit`, of rows that are never all in memory."""

        def write(temporary: Path) -> None:
            write_batches(temporary, schema, batches)
            self.check_epoch()

        write_atomically(path, write, root=self.root)

    def commit_text(self, path: Path, text: str) -> None:
        """A small text file, whole or not at all."""
        write_text(path, text, root=self.root)

    def sources(self) -> Places:
        """Where the bytes of each item of the plan lie, by item_id; of an address only once they are here."""
        with self.plan() as plan:
            return Places(chain(_local_places(plan), self._fetched_places()))

    def _fetched_places(self) -> Iterator[pa.Table]:
        """Where bytes lie that were fetched."""
        for path in (self.root / FETCHED).glob("unit-*.parquet"):
            rows = read_table(path, ["item_id", "tar", "offset", "bytes"])
            rows = rows.filter(pc.is_valid(rows["tar"]))
            tars = pc.binary_join_element_wise(str(self.root / FETCHED), rows["tar"], "/")
            member = pa.nulls(len(rows), pa.int64())
            yield pa.table([rows["item_id"], tars, rows["offset"], rows["bytes"], member], PLACES.names)

    def subtitles(self) -> dict[str, Place]:
        """Where files of subtitles beside items of the plan lie, by item_id."""
        names = ["item_id", "subtitles_path", "subtitles_offset", "subtitles_size"]
        found: dict[str, Place] = {}
        with self.plan() as plan:
            for part in plan.batches(names):
                rows = part.filter(pc.is_valid(part["subtitles_path"])).to_pylist()
                found |= {row["item_id"]: Source(*(row[name] for name in names[1:])) for row in rows}
        return found

    def read(self, path: Path) -> pa.Table:
        """A committed table, page checksums verified. DataError where it is damaged, MachineError where the disk is."""
        if path == self.plan_path:
            table = read_table(path)
            require_columns(path, table.column_names)
            return with_later_columns(table)
        return read_table(path)

    def require_plan(self) -> None:
        """Read the plan through, as `read`, and keep nothing of it."""
        check_table(self.plan_path)
        require_columns(self.plan_path, read_schema(self.plan_path).names)

    def plan(self) -> PlanReader:
        """The plan, opened to be read a part at a time."""
        return PlanReader(self.plan_path)

    @contextlib.contextmanager
    def lock(self) -> Iterator[RunFolder]:
        """Hold the folder as its only driver; yields it with a fresh epoch, without what killed writers left.

        MachineError when another run holds it.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = (self.root / ".lock").open("a")
        except OSError as error:
            failure = os_failure(error, f"{self.root} cannot be a run folder", "; or choose another --out")
            raise ConfigError(str(failure)) if isinstance(failure, DataError) else failure from None
        with handle:
            lock(handle, self.root)
            epoch = self._read_epoch() + 1
            self.commit_text(self.root / ".epoch", f"{epoch}\n")
            held = RunFolder(self.root, epoch)
            held.sweep()
            yield held

    def check_epoch(self) -> None:
        """Raise StaleEpoch when this writer's driver is no longer the one."""
        if self._epoch is not None and self._read_epoch() != self._epoch:
            raise StaleEpoch(f"{self.root} belongs to a newer run; this worker writes nothing")

    def prepare(self, schemas: dict[str, pa.Schema]) -> None:
        """Write each table's columns as an empty file `schemas/TABLE.parquet`: queries work before the first row.

        Earlier versions had it among the table's own files, where readers of the table met a file without rows.
        """
        for table, schema in schemas.items():
            path = self.root / SCHEMAS / f"{table}.parquet"
            if not path.is_file() or read_schema(path) != schema:
                self.commit(path, schema.empty_table())
            if (self.root / table / "schema.parquet").is_file():
                self.remove(self.root / table / "schema.parquet")

    def sweep(self) -> int:
        """Remove temporary files that killed writers left; returns how many."""
        return sweep(self.root)

    def damaged(self) -> list[str]:
        """Files whose bytes differ from their SHA-256, that lack one, or that are gone."""
        visible = {path for folder in (*TABLES, SCHEMAS) for path in (self.root / folder).rglob("*.parquet")}
        return damaged_files(
            self.root, visible | {path for path in (self.plan_path, self.recipe_path) if path.is_file()}
        )

    def remove(self, path: Path) -> None:
        """Take a committed file away."""
        remove(self.root, path)

    def _read_epoch(self) -> int:
        path = self.root / ".epoch"
        try:
            return int(path.read_text()) if path.is_file() else 0
        except OSError as error:
            raise os_failure(error, f"cannot read {path}") from None
        except ValueError:
            raise DataError(
                f"{path} is damaged: it holds no number; remove it when no run writes to this folder, then run the "
                "same command again"
            ) from None


def _local_places(plan: PlanReader) -> Iterator[pa.Table]:
    """Where bytes lie that the dump itself holds."""
    for part in plan.batches([*PLACES.names, "url"]):
        yield part.filter(pc.is_null(part["url"])).select(PLACES.names)
