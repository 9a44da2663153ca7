"""Plan: cut a dump into units of fixed content. The plan is a table, one row per item; a new crawl appends units."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reelmill.archives.columns import URLS
from reelmill.curation.ledger import PLAN, is_forgotten, item_id
from reelmill.curation.readers import find_reader, names
from reelmill.curation.readers.contract import Reader
from reelmill.curation.readers.item import Item
from reelmill.draws import uniform_of
from reelmill.errors import DataError
from reelmill.media.source import Packed, Place, Source
from reelmill.orchestration.runfolder import RunFolder

BEGINNING = 64 * 1024
UNITS_A_WORKER = 2
"""At least, where several workers share a dump: one that has had a long unit is caught up with."""
SHOWN = 8
"""Suffixes of ignored files that are named one by one."""
_STAYS = ("unit", "position", "item_id", "uri", "kind", "problem", "forgotten_sha256")
_PLACE = [name for name in PLAN.names if name not in _STAYS]
"""Where an item lies; all that may change. Its `problem` stays: a forgotten item is not brought back by a stage."""


@dataclass
class PlanConfig:
    """How a dump is read, and how much a unit holds: the first bound that is reached closes it."""

    unit_items: int = 64
    """Items of a unit, at most."""
    unit_mb: int = 2048
    """MiB of media in a unit, at most."""
    readers: list[str] = field(default_factory=list)
    """Readers of one's own, `package.module:Class`, which are asked before those of reelmill."""
    columns: dict[str, str] = field(default_factory=dict)
    """Columns of URL tables whose names do not tell what they hold: url = "img_src", caption = "alt_de"."""


@dataclass(frozen=True)
class Planned:
    """What planning did."""

    new_items: int
    known_items: int
    new_units: int
    ignored: Mapping[str, int]
    """Files of the dump that are neither items nor sidecars: how many by suffix."""

    def __str__(self) -> str:
        words = f"{self.new_items} new items in {self.new_units} units, {self.known_items} known"
        most = sorted(self.ignored.items(), key=lambda entry: (-entry[1], entry[0]))
        listed = [f"{count} {what}" for what, count in most[:SHOWN]]
        if len(most) > SHOWN:
            listed.append(f"{sum(count for _, count in most[SHOWN:])} others")
        return f"{words}; not read: {', '.join(listed)}" if listed else words


def extend_plan(
    folder: RunFolder,
    dump: Path,
    config: PlanConfig,
    prefix: str = "",
    limit: int | None = None,
    share: float = 1.0,
    kinds: Collection[str] = ("video", "image", "text"),
    *,
    with_addresses: bool = True,
    workers: int = 1,
) -> Planned:
    """Append the items of `dump` that the plan does not know yet, in units; those of `kinds`.

    Rows of URL tables are items `with_addresses`, and counted without.

    `limit` takes the first items of the dump only; `share` takes so many of all items, chosen by their ids: the same
    ones on every run, a larger share holding a smaller one. A small dump gets smaller units, so that each of so many
    `workers` has `UNITS_A_WORKER`. An item is known by its uri (`prefix/` put before it when
    given). A known uri whose size differs is another item under the same name: DataError says to use a prefix. A dump
    that moved keeps its items; their places, and those of their sidecars, are updated.
    """
    plan = _plan_of(folder)
    known = {row["item_id"]: row for row in plan.select(["item_id", "problem", *_PLACE]).to_pylist()}
    root = str(dump.resolve())
    reader = find_reader(dump, config.readers, config.columns)
    fresh: list[dict[str, Any]] = []
    seen: set[str] = set()
    moved = False
    ignored: Counter[str] = Counter()
    for item in reader.items(dump):
        if item.is_address and not with_addresses:
            ignored[URLS] += 1
            continue
        if item.kind not in kinds:
            ignored[names.label(item.uri)] += 1
            continue
        row = _row(item, root, prefix, reader)
        identity = row["item_id"]
        if identity in seen or uniform_of(identity) >= share:
            continue
        if limit is not None and len(seen) >= limit:
            break
        seen.add(identity)
        if identity in known:
            _same_item(row, known[identity])
            row["known"] = None if is_forgotten(known[identity]["problem"]) else row["known"]
            moved = moved or any(known[identity][name] != row[name] for name in _PLACE)
        else:
            fresh.append(row)
    if moved:
        plan = _moved(plan, dump, prefix, config)
    first = (pc.max(plan["unit"]).as_py() + 1) if len(plan) else 0
    rows = [
        {**row, "unit": first + number, "position": position}
        for number, unit in enumerate(_units(fresh, config, workers))
        for position, row in enumerate(unit)
    ]
    if rows or moved or not folder.plan_path.is_file():
        added = pa.Table.from_pylist(rows, schema=PLAN)
        folder.commit(folder.plan_path, pa.concat_tables([plan, added], promote_options="default"))
    units = rows[-1]["unit"] - first + 1 if rows else 0
    return Planned(len(rows), len(seen) - len(rows), units, dict(reader.ignored + ignored))


def _plan_of(folder: RunFolder) -> pa.Table:
    """The plan so far. DataError where it is gone: another one beside its units would mix their items up."""
    if folder.plan_path.is_file():
        return folder.read(folder.plan_path)
    if any((folder.root / "items").glob("unit-*.parquet")):
        raise DataError(
            f"{folder.plan_path} is gone, but units of it were scored; put it back from a copy, or choose another --out"
        )
    return PLAN.empty_table()


def unit_items(plan: pa.Table, unit: int) -> list[dict[str, Any]]:
    """The plan's rows of one unit, in position order."""
    rows: list[dict[str, Any]] = plan.filter(pc.equal(plan["unit"], unit)).sort_by("position").to_pylist()
    return rows


def _units(rows: list[dict[str, Any]], config: PlanConfig, workers: int) -> Iterator[list[dict[str, Any]]]:
    shared = -(-len(rows) // (workers * UNITS_A_WORKER)) if workers > 1 else len(rows)
    most = min(config.unit_items, shared)
    unit: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        if unit and (len(unit) >= most or size + row["size"] > config.unit_mb * 1024**2):
            yield unit
            unit, size = [], 0
        unit.append(row)
        size += row["size"]
    if unit:
        yield unit


def _row(item: Item, root: str, prefix: str, reader: Reader) -> dict[str, Any]:
    name = Path(root).name
    uri = "/".join(filter(None, [name if reader.is_named else "", item.uri])) or name
    uri = f"{prefix}/{uri}" if prefix else uri
    row = {"item_id": item_id(uri), "uri": uri, "kind": item.kind, "dump": root, "problem": item.problem}
    known = item.known.to_json() if item.known else None
    member = item.source.member if isinstance(item.source, Packed) else None
    places = {**_place("", item.source), **_place("json_", item.json), **_place("text_", item.text)}
    places |= _place("subtitles_", item.subtitles if isinstance(item.subtitles, Source) else None)
    return {**row, **places, "member": member, "known": known, "url": item.url}


def _place(prefix: str, place: Place | None) -> dict[str, Any]:
    if place is None:
        return {f"{prefix}path": None, f"{prefix}offset": None, f"{prefix}size": None}
    offset = 0 if isinstance(place, Packed) else place.offset
    return {f"{prefix}path": place.path, f"{prefix}offset": offset, f"{prefix}size": place.size}


def _same_item(row: dict[str, Any], known: dict[str, Any]) -> None:
    """DataError when the item known under this uri is another one, by its URL, or its size and its first bytes."""
    if row["url"] is not None and row["url"] != known["url"]:
        raise DataError(
            f"{row['uri']} is already in this run as the row of {known['url'] or known['path']}; it is that of "
            f"{row['url']} now. A table may grow at its end; give another table a name with --prefix NAME."
        )
    if row["url"] is not None:
        return
    if row["size"] == known["size"] and (row["path"] == known["path"] or _begin_alike(row, known)):
        return
    raise DataError(
        f"{row['uri']} is already in this run, from {known['dump']}, with {known['size']} bytes; the one in "
        f"{row['dump']} has {row['size']} bytes and is not the same. If it is another item, give this dump a name with "
        "--prefix NAME; if the item has changed, curate into a new --out."
    )


def _begin_alike(row: dict[str, Any], known: dict[str, Any]) -> bool:
    """Whether two places begin with the same bytes; a place that is gone counts as the same."""
    if not Path(known["path"]).is_file() or not Path(row["path"]).is_file():
        return True
    return _beginning(row) == _beginning(known)


def _beginning(row: dict[str, Any]) -> bytes:
    """An item's first bytes; of a member of an archive those of the archive."""
    size = row["size"] if row["member"] is None else Path(row["path"]).stat().st_size
    with Source(row["path"], row["offset"], size).open() as stream:
        return stream.read(BEGINNING)


def _moved(plan: pa.Table, dump: Path, prefix: str, config: PlanConfig) -> pa.Table:
    """The plan with the places of this dump's items as they are now."""
    root = str(dump.resolve())
    places = {}
    reader = find_reader(dump, config.readers, config.columns)
    for item in reader.items(dump):
        row = _row(item, root, prefix, reader)
        places[row["item_id"]] = {name: row[name] for name in _PLACE}
    rows = [
        {**row, **places.get(row["item_id"], {}), **({"known": None} if is_forgotten(row["problem"]) else {})}
        for row in plan.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=PLAN)


def group_by(rows: Iterable[dict[str, Any]], key: str) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Consecutive rows with one value of `key`, as lists."""
    for value, group in itertools.groupby(rows, key=lambda row: row[key]):
        yield value, list(group)
