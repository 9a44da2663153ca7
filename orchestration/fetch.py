"""The fetch stage: which addresses are left, and fetching them, units side by side, in this process.

One process, since bounds by host hold for all of a run; it spends its time waiting. A unit is committed when the last
of its addresses has an outcome.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from reelmill.curation.fetching.client import Client
from reelmill.curation.fetching.config import FetchConfig
from reelmill.curation.fetching.outcome import Fetched, Said, Wanted
from reelmill.curation.ledger import FETCHES
from reelmill.curation.readers.names import KINDS
from reelmill.errors import ConfigError
from reelmill.media.source import Source
from reelmill.orchestration.engine import Receipt, Task
from reelmill.orchestration.fetched import UnitWriter, rows_of, sweep_tars
from reelmill.orchestration.forgotten import forgotten_hashes
from reelmill.orchestration.left import runs, set_aside
from reelmill.orchestration.runfolder import FETCHED, RunFolder
from reelmill.orchestration.spilling import MEMORY
from reelmill.orchestration.views import LedgerQueries
from reelmill.os_errors import os_failure

RETRY = "fetch"
"""`--retry fetch`: what failed; `--retry fetch:timeout`: what has that reason."""
OPEN_UNITS = 64
"""Units at a time, those that are being committed included."""
_STATED = ("digest", "side", "etag", "last_modified")
"""What a table says of an address's bytes, and what came with those that are here."""
BUSY_BYTES = 4 * 1024**2
"""Larger bodies are copied by a thread of their own, meanwhile others are fetched."""

_LEFT = """WITH wanted AS (SELECT unit, position, item_id, url,
    known ->> '$.digest' AS digest, (known ->> '$.side')::DOUBLE AS side,
    first_value({unit: unit, item_id: item_id}) OVER (PARTITION BY url ORDER BY unit, position) AS first
    FROM plan WHERE url IS NOT NULL AND problem IS NULL)
SELECT w.unit, w.item_id, w.url, w.digest, w.side, f.etag, f.last_modified,
    w.item_id <> w.first.item_id AS is_repeated, w.first.unit AS first_unit, w.first.item_id AS first_item_id
FROM wanted w LEFT JOIN fetches f USING (item_id)
WHERE f.item_id IS NULL OR ($1 AND f.outcome = 'fetched')
    OR ($2 AND f.outcome = 'failed') OR list_contains($3::VARCHAR[], split_part(f.reason, ':', 1))
ORDER BY is_repeated, w.unit, w.position"""
_LEFT_ROWS = pa.schema(
    [
        *(("unit", pa.int32()), ("item_id", pa.string()), ("url", pa.string())),
        *(("digest", pa.string()), ("side", pa.float64()), ("etag", pa.string()), ("last_modified", pa.string())),
        *(("is_repeated", pa.bool_()), ("first_unit", pa.int32()), ("first_item_id", pa.string())),
    ]
)
_OF_THE_ROW = ("too_small", "wrong_digest")
"""Reasons that lie in what a row states of its URL, and not in what the URL gives."""


def fetch_tasks(folder: RunFolder, retry: Collection[str] = (), *, again: bool = False) -> list[Task]:
    """One task per unit with addresses that lack a row, or whose row `retry` names; `again`: what was fetched too.

    Rows that repeat the URL of an earlier one come last, in tasks of their own: they take what that one got.
    """
    sweep_tars(folder)
    reasons = [reason for name, _, reason in (entry.partition(":") for entry in retry) if name == RETRY and reason]
    with LedgerQueries(folder.root, memory=MEMORY) as ledger:
        left = set_aside(folder, _LEFT_ROWS, ledger.batches(_LEFT, [again, RETRY in retry, reasons]))
    tasks = [
        {"unit": unit, "items": wanted.count, "is_repeated": is_repeated, "wanted": wanted}
        for (is_repeated, unit), wanted in runs(left, ["is_repeated", "unit"])
    ]
    if not tasks:
        left.unlink()
    return tasks


def check_retry(entry: str) -> None:
    """ConfigError for a `--retry` that is none of this stage's."""
    if not re.fullmatch(rf"{RETRY}(:\w+)?", entry):
        raise ConfigError(
            f"--retry {entry!r}: what is worth another try is `machine`, `scorer`, `fetch`, or what was not fetched "
            "for a reason, such as `fetch:timeout`"
        )


def fetch_units(
    folder: RunFolder, config: FetchConfig, kinds: Collection[str], tasks: Sequence[Task]
) -> Iterator[Receipt]:
    """Fetch what the tasks want; yields a receipt as each unit is committed. `kinds`: of items that the recipe reads.

    Raises MachineError when the disk is full.
    """
    if not tasks:
        return
    with asyncio.Runner() as loop:
        stage = _Stage(folder, config, kinds, tasks)
        try:
            loop.run(stage.open())
            while (receipt := loop.run(stage.next())) is not None:
                yield receipt
        except OSError as error:
            raise os_failure(error, f"cannot write to {folder.root / FETCHED}") from None
        finally:
            loop.run(stage.close())
            tasks[0]["wanted"].path.unlink(missing_ok=True)


class _Stage:
    """Units under way: as many as keep the fetcher busy. Those that are being committed do not count as such."""

    def __init__(self, folder: RunFolder, config: FetchConfig, kinds: Collection[str], tasks: Sequence[Task]) -> None:
        self._folder, self._kinds, self._tasks = folder, kinds, tasks
        with folder.plan() as plan:
            self._forgotten = forgotten_hashes(plan)
        self._most = 4 * config.total
        self._room = asyncio.Semaphore(self._most)  # addresses that may be under way
        self._units = asyncio.Semaphore(OPEN_UNITS)
        self._running: set[asyncio.Task[None]] = set()
        self._done: asyncio.Queue[Receipt | BaseException] = asyncio.Queue()
        self._given = 0
        (folder.root / FETCHED).mkdir(exist_ok=True)
        self._client = Client(config, folder.root / FETCHED)

    async def open(self) -> None:
        """Begin."""
        await self._client.__aenter__()
        self._running.add(asyncio.ensure_future(self._feed()))

    async def close(self) -> None:
        """End, with what is under way."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._client.__aexit__(None, None, None)

    async def next(self) -> Receipt | None:
        """The receipt of the unit that is done next; None when all are. Raises what stopped a unit."""
        if self._given == len(self._tasks):
            return None
        found = await self._done.get()
        if isinstance(found, BaseException):
            raise found
        self._given += 1
        return found

    async def _feed(self) -> None:
        for number, task in enumerate(self._tasks):
            if task["is_repeated"] and (number == 0 or not self._tasks[number - 1]["is_repeated"]):
                await asyncio.gather(*self._running - {asyncio.current_task()}, return_exceptions=True)
            await self._units.acquire()
            for _ in range(min(task["items"], self._most)):
                await self._room.acquire()
            running = asyncio.ensure_future(self._run(task))
            self._running.add(running)
            running.add_done_callback(self._running.discard)

    async def _run(self, task: Task) -> None:
        try:
            self._done.put_nowait(await self._unit(task))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._done.put_nowait(error)
        finally:
            self._units.release()

    async def _unit(self, task: Task) -> Receipt:
        rows = task["wanted"].rows()
        work = _Work(self._folder, task["unit"], rows, self._kinds, self._forgotten)
        work.held = min(task["items"], self._most)
        try:
            async with asyncio.TaskGroup() as group:
                for wanted in rows:
                    group.create_task(self._one(work, wanted))
            await asyncio.to_thread(work.writer.commit)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            work.writer.discard()
        return {"unit": task["unit"], "items": task["items"], **work.counts}

    async def _one(self, work: _Work, wanted: Mapping[str, Any]) -> None:
        asked = Wanted(wanted["url"], **{name: wanted[name] for name in _STATED})
        first = work.first_of(wanted)
        if first is None:
            found = await self._client.fetch(asked)
        else:
            found = await asyncio.to_thread(_taken_over, self._client, asked, first, self._folder.root / FETCHED)
        try:
            await work.keep(wanted, found)
        finally:
            if work.held:
                work.held -= 1
                self._room.release()
            if found.body is not None:
                found.body.close()


class _Work:
    """A unit under way: what its addresses have given so far."""

    def __init__(
        self,
        folder: RunFolder,
        unit: int,
        rows: Sequence[Mapping[str, Any]],
        kinds: Collection[str],
        forgotten: Mapping[str, str],
    ) -> None:
        self.writer, self._kinds, self._forgotten = UnitWriter(folder, unit), kinds, forgotten
        firsts = {row["first_unit"] for row in rows if row["is_repeated"]}
        self._firsts = {name: row for first in firsts for name, row in rows_of(folder, first).items()}
        self._one_at_a_time = asyncio.Lock()
        self.held = 0  # of the room for addresses under way
        self.counts = dict.fromkeys(("fetched", "refused", "failed"), 0)

    def first_of(self, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row of the item that has the same URL and came first, where it says what this one would get too."""
        row = self._firsts.get(wanted["first_item_id"]) if wanted["is_repeated"] else None
        return None if row is None or (row["reason"] or "").partition(":")[0] in _OF_THE_ROW else row

    async def keep(self, wanted: Mapping[str, Any], found: Fetched) -> None:
        """Keep what became of an address. Bytes that are here stay, where it fails today or gives the same."""
        row = _row(wanted, found, self._kinds)
        if row["sha256"] in self._forgotten:
            row.update(outcome="refused", reason=self._forgotten[row["sha256"]], sha256=None, bytes=None, kind=None)
        self.counts["fetched" if row["outcome"] == "unchanged" else row["outcome"]] += 1
        before = self.writer.before.get(wanted["item_id"])
        if before is not None and before["outcome"] == "fetched":
            if row["outcome"] == "failed":
                return
            if row["outcome"] == "unchanged":
                self.writer.note({**before, **{name: row[name] for name in ("fetched", "seconds", "attempts")}})
                return
            if row["sha256"] == before["sha256"]:
                self.writer.note({**row, "tar": before["tar"], "offset": before["offset"]})
                return
        if row["outcome"] != "fetched":
            self.writer.note(row)
            return
        assert found.body is not None and found.suffix is not None
        async with self._one_at_a_time:
            if found.body.size > BUSY_BYTES:
                await asyncio.to_thread(self.writer.add, row, found.suffix, found.body.file)
            else:
                self.writer.add(row, found.suffix, found.body.file)


def _taken_over(client: Client, wanted: Wanted, first: Mapping[str, Any], folder: Path) -> Fetched:
    """What an item gets whose URL was fetched for another one: the same bytes, or the same reason."""
    said = Said(**{name: first[name] for name in vars(Said())})
    if first["outcome"] != "fetched":
        return Fetched(first["outcome"], first["reason"], said=said)
    with Source(str(folder / first["tar"]), first["offset"], first["bytes"]).open() as file:
        return client.copied(wanted, said, file)


def _row(wanted: Mapping[str, Any], found: Fetched, kinds: Collection[str]) -> dict[str, Any]:
    """The row of `fetches`, before it is known where its bytes will lie."""
    row: dict[str, Any] = dict.fromkeys(FETCHES.names)
    row.update(vars(found.said), unit=wanted["unit"], item_id=wanted["item_id"], url=wanted["url"])
    row.update(outcome=found.outcome, reason=found.reason, attempts=found.attempts, fetched=datetime.now(UTC))
    row.update(seconds=round(found.seconds, 3))
    if found.outcome != "fetched":
        return row
    assert found.body is not None and found.suffix is not None
    kind = KINDS[found.suffix]
    if kind not in kinds:
        return {
            **row,
            "outcome": "refused",
            "reason": f"unread_kind: {kind}; the recipe reads {', '.join(sorted(kinds))}",
        }
    return {**row, "kind": kind, "bytes": found.body.size, "sha256": found.body.digest()}
