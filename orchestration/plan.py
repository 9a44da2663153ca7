"""Plan: cut a dump into units of fixed content. The plan is a table, one row per item; a new crawl appends units."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from reelmill.archives.columns import URLS
from reelmill.curation.interfaces import Kind
from reelmill.curation.ledger import PLAN, item_id
from reelmill.curation.readers import find_reader, names
from reelmill.curation.readers.contract import Reader
from reelmill.curation.readers.item import Item
from reelmill.draws import uniform_of
from reelmill.errors import DataError
from reelmill.media.source import Packed, Place, Source
from reelmill.orchestration.listed import Asked, Listed, note, unchanged
from reelmill.orchestration.listing import Comparison, ListingWriter
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.table_files import read_table

BEGINNING = 64 * 1024
UNITS_A_WORKER = 2
"""At least, where several workers share a dump: one that has had a long unit is caught up with."""
SHOWN = 8
"""Suffixes of ignored files that are named one by one."""


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
    opt_outs: bool = True
    """Whether records of crawls are refused whose header or page says `noai`, `noimageai` or `tdm-reservation: 1`."""


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
    _require_plan(folder)
    reader = find_reader(dump, config.readers, config.columns, opt_outs=config.opt_outs)
    readers = tuple(config.readers)
    asked = Asked(
        dump, readers, config.columns, prefix, limit, share, frozenset(kinds), with_addresses, config.opt_outs
    )
    if (before := unchanged(folder, asked)) is not None:
        return Planned(0, before.items, 0, before.ignored)
    look = asked.look()
    with ListingWriter(folder) as listing:
        ignored = _list(reader, asked, listing)
        with Comparison(folder, listing.path) as found:
            for row in found.doubtful():
                _same_item(row)
            new, known = found.counts()
            moved = found.has_moved()
            if moved and (limit is not None or share < 1):
                _move_all(folder, asked)
            units = (
                _commit(folder, found, config, new, workers) if new or moved or not folder.plan_path.is_file() else 0
            )
    note(folder, asked, look, Listed(known + new, ignored))
    return Planned(new, known, units, ignored)


def _require_plan(folder: RunFolder) -> None:
    """DataError where the plan is gone: another one beside its units would mix their items up, or is damaged."""
    if folder.plan_path.is_file():
        folder.require_plan()
    elif any((folder.root / "items").glob("unit-*.parquet")):
        raise DataError(
            f"{folder.plan_path} is gone, but units of it were scored; put it back from a copy, or choose another --out"
        )


def _list(reader: Reader, asked: Asked, listing: ListingWriter) -> dict[str, int]:
    """Write what the dump holds of what is asked for; returns what is passed over, by suffix."""
    root = str(asked.dump.resolve())
    ignored: Counter[str] = Counter()
    first: set[str] = set()  # of the items, where there is a limit
    for item in reader.items(asked.dump):
        if item.is_address and not asked.with_addresses:
            ignored[URLS] += 1
            continue
        if item.is_archive and item.kind not in asked.kinds:  # a row of every recipe
            item = replace(item, kind=cast(Kind, min(asked.kinds)))  # noqa: PLW2901
        if item.kind not in asked.kinds:
            ignored[names.label(item.uri)] += 1
            continue
        row = _row(item, root, asked.prefix, reader)
        if uniform_of(row["item_id"]) >= asked.share:
            continue
        if asked.limit is not None:
            if row["item_id"] not in first and len(first) >= asked.limit:
                break
            first.add(row["item_id"])
        listing.add(row)
    listing.finish()
    return dict(reader.ignored + ignored)


def _move_all(folder: RunFolder, asked: Asked) -> None:
    """A dump that moved has moved whole, however little of it is asked for."""
    reader = find_reader(asked.dump, asked.readers, asked.columns, opt_outs=asked.opt_outs)
    with ListingWriter(folder) as listing:
        _list(reader, replace(asked, limit=None, share=1.0), listing)
        with Comparison(folder, listing.path) as found:
            folder.commit_batches(folder.plan_path, PLAN, found.planned())


def _commit(folder: RunFolder, found: Comparison, config: PlanConfig, new: int, workers: int) -> int:
    """Write the plan with the items that it lacks; the number of their units."""
    first = _next_unit(folder)
    shared = -(-new // (workers * UNITS_A_WORKER)) if workers > 1 else new
    units = _Units(first, min(config.unit_items, shared), config.unit_mb * 1024**2)
    batches = itertools.chain(found.planned(), map(units.placed, found.fresh()))
    folder.commit_batches(folder.plan_path, PLAN, batches)
    return units.last - first + 1


def _next_unit(folder: RunFolder) -> int:
    if not folder.plan_path.is_file():
        return 0
    units = pc.max(read_table(folder.plan_path, ["unit"])["unit"]).as_py()
    return 0 if units is None else units + 1


class _Units:
    """Cuts rows that come in order into units: the first bound that is reached closes one."""

    def __init__(self, first: int, most: int, most_bytes: int) -> None:
        self.last = first - 1
        self._most, self._most_bytes = most, most_bytes
        self._items, self._bytes = most, 0

    def placed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows, as the plan has them, with their units and positions."""
        places = [self._place(size) for size in batch["size"].to_pylist()]
        units, positions = (pa.array(column, pa.int32()) for column in zip(*places, strict=True))
        own = {"unit": units, "position": positions, "forgotten_sha256": pa.nulls(len(places), pa.string())}
        return pa.record_batch([own[name] if name in own else batch[name] for name in PLAN.names], schema=PLAN)

    def _place(self, size: int) -> tuple[int, int]:
        if self._items >= self._most or (self._items and self._bytes + size > self._most_bytes):
            self.last, self._items, self._bytes = self.last + 1, 0, 0
        self._items, self._bytes = self._items + 1, self._bytes + size
        return self.last, self._items - 1


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


def _same_item(row: dict[str, Any]) -> None:
    """DataError when the item known under this uri is another one, by its URL, or its size and its first bytes."""
    if row["url"] is not None:
        raise DataError(
            f"{row['uri']} is already in this run as the row of {row['was_url'] or row['was_path']}; it is that of "
            f"{row['url']} now. A table may grow at its end; give another table a name with --prefix NAME."
        )
    was = {name: row[f"was_{name}"] for name in ("path", "offset", "size", "member")}
    if row["size"] == was["size"] and (row["path"] == was["path"] or _begin_alike(row, was)):
        return
    raise DataError(
        f"{row['uri']} is already in this run, from {row['was_dump']}, with {was['size']} bytes; the one in "
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


def group_by(rows: Iterable[dict[str, Any]], key: str) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Consecutive rows with one value of `key`, as lists."""
    for value, group in itertools.groupby(rows, key=lambda row: row[key]):
        yield value, list(group)
