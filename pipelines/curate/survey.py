"""`reelmill curate --plan-only`: what a dump holds, and about what it will cost by what was measured."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from reelmill.curation.readers import names
from reelmill.curation.scoring import ItemScorer
from reelmill.errors import DataError, MachineError
from reelmill.media.reader import MediaReader
from reelmill.media.source import Place, place_of, reading_order
from reelmill.orchestration.planned import PlanReader
from reelmill.orchestration.recipe import Recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.tables import print_table
from reelmill.terminal import say

ASKED = 64
ASKED_S = 30.0
"""Videos whose headers are read and texts whose language is found, and seconds of the clock that each may take."""
VIDEO_RATE, RAFT_RATE = 0.12, 0.06
"""CPU-seconds a second of 1280x720 video, by bench/curate.py (docs/benchmarks.md): the chain, and RAFT beside it."""
IMAGE_RATE, DETECTOR_RATE = 0.045, 0.035
"""CPU-seconds a picture of 1024x768 by recipe `image` (docs/benchmarks.md): decoding and what is cheap, and scorer
`text`."""
TEXT_RATE = 0.87
"""CPU-seconds a MB of text by recipe `text`, by bench/text.py."""
ROW_BYTES, IMAGE_BYTES, TEXT_SHARE = 1100, 8000, 0.6
"""Bytes on disk: of a sample's rows, of the tokens of a picture of 512x512, of the tokens of a byte of text."""
SHOWN = 12
"""Languages that are named one by one."""
LANGUAGE = "language"
_COUNTED = ("unit", "item_id", "path", "kind", "size", "problem", "url")
_MEASURED = """SELECT sum(cpu_s) AS cpu_s, (SELECT count(*) FROM items) AS items,
    (SELECT sum(duration_s) FROM items WHERE kind = 'video') AS video_s FROM timings"""


@dataclass(frozen=True)
class Survey:
    """Formats with kinds, items and MB; refused items by reason; hours of video where headers tell; the cost.

    `languages`: of some texts, how many are in each; `unknown` where none was found.

    `addresses`: URLs that wait to be fetched, hosts, hours that the bounds by host take at least, and MB by the mean of
    those that this run has fetched. `cpu_hours` and `disk_mb` are None where there is nothing to go by; `measured` says
    what they go by.
    """

    formats: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    video_hours: float | None
    cpu_hours: float | None
    disk_mb: float | None
    measured: str
    addresses: dict[str, Any] | None = None
    languages: list[dict[str, Any]] = field(default_factory=list)


def survey(
    plan: PlanReader,
    done: Collection[int],
    folder: RunFolder,
    recipe: Recipe,
    weight: float = 1.0,
    cut: Path | None = None,
) -> Survey:
    """What a plan holds that waits to be scored: its rows outside of the units that are `done`.

    Numbers are times `weight`, where the plan is of a part of a dump. `cut`: an archive of which only the beginning is
    here, so that what is wrong with it says nothing.
    """
    items, size, refused = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[str]()
    hosts = Counter[str]()
    here, here_bytes = Counter[str](), Counter[str]()
    known = _fetched(folder)
    for part in plan.batches(_COUNTED):
        rows = _waiting(part, done)
        for row in rows.to_pylist():
            if row["problem"] and cut is not None and row["path"] == str(cut):
                continue
            if row["problem"]:
                refused[row["problem"].partition(":")[0]] += 1
                continue
            where = (names.label(row["path"]), row["kind"])
            items[where] += 1
            size[where] += row["size"]
            if row["url"] is None:
                here[row["kind"]] += 1
                here_bytes[row["kind"]] += row["size"]
        left = rows.filter(_addressed(rows, known))
        hosts.update(map(_host, left["url"].to_pylist()))
    sampled = Counter(here)
    for counter in (items, size, refused, hosts, here, here_bytes):
        _multiply(counter, weight)
    formats = [
        {"format": form, "kind": kind, "items": items[form, kind], "megabytes": round(size[form, kind] / 1e6, 1)}
        for form, kind in sorted(items)
    ]
    reasons = [{"reason": reason, "items": count} for reason, count in refused.most_common()]
    hours = _video_hours(_spread(plan, done, "video", sampled["video"]), here_bytes["video"])
    languages = _languages(_spread(plan, done, "text", sampled["text"]), recipe)
    total = items.total() + refused.total()
    cost = _cost(total, hours, here, here_bytes["text"], folder, recipe)
    addresses = _addresses(hosts, folder, recipe.fetch.host_rate)
    return Survey(formats, reasons, hours, *cost, addresses, languages)


def _multiply(counter: Counter[Any], weight: float) -> None:
    for key, count in counter.items():
        counter[key] = round(count * weight)


def print_survey(found: Survey, console: Console) -> None:
    """The same on a terminal."""
    print_table(console, found.formats, "What is there")
    if found.refused:
        print_table(console, found.refused, "Refused unopened")
    if found.video_hours is not None:
        say(console, f"about {found.video_hours:,.2f} hours of video, by the headers of some", head="hours")
    if found.languages:
        listed = ", ".join(f"{row['language']} {row['texts']}" for row in found.languages[:SHOWN])
        others = sum(row["texts"] for row in found.languages[SHOWN:])
        asked = sum(row["texts"] for row in found.languages)
        line = f"of {asked} texts that were looked into: {listed}{f', others {others}' if others else ''}"
        say(console, line, head="languages")
    if found.addresses:
        wait = f", at least {found.addresses['hours']:,.2f} hours" if found.addresses["hours"] else ""
        size = f", about {found.addresses['megabytes']:,.0f} MB" if found.addresses["megabytes"] is not None else ""
        line = f"{found.addresses['urls']:,} URLs at {found.addresses['hosts']:,} hosts{wait}{size}"
        say(console, line, head="fetch")
    cost = [f"{found.cpu_hours:,.2f} CPU hours"] if found.cpu_hours is not None else []
    cost += [f"{found.disk_mb:,.1f} MB of disk"] if found.disk_mb is not None else []
    say(console, f"about {' and '.join(cost)}, {found.measured}" if cost else found.measured, head="cost")


def _waiting(part: pa.Table, done: Collection[int]) -> pa.Table:
    """The rows of units that are not done."""
    return part.filter(pc.invert(pc.is_in(part["unit"], value_set=pa.array(list(done), pa.int32()))))


def _spread(plan: PlanReader, done: Collection[int], kind: str, count: int) -> list[dict[str, Any]]:
    """Some of the `count` items of a kind whose bytes are here, from all over the plan."""
    found: list[dict[str, Any]] = []
    step, seen = max(count // ASKED, 1), 0
    for part in plan.batches() if count else ():
        rows = _waiting(part, done)
        rows = rows.filter(pc.and_(pc.equal(rows["kind"], kind), pc.is_null(pc.coalesce(rows["url"], rows["problem"]))))
        found += rows.take(list(range(-seen % step, len(rows), step))).to_pylist()
        seen += len(rows)
    return found


def _fetched(folder: RunFolder) -> pa.Array:
    """Items whose addresses have been asked."""
    if not folder.exists():
        return pa.array([], pa.string())
    with LedgerQueries(folder.root) as ledger:
        return ledger.table("SELECT item_id FROM fetches")["item_id"].combine_chunks()


def _addressed(rows: pa.Table, known: pa.Array) -> pa.Array:
    """Which rows have an address that waits to be asked."""
    asked = pc.is_in(rows["item_id"], value_set=known)
    return pc.and_(pc.and_not(pc.is_valid(rows["url"]), asked), pc.is_null(rows["problem"]))


def _addresses(hosts: Counter[str], folder: RunFolder, host_rate: float) -> dict[str, Any] | None:
    """What is known of URLs before they are asked; None where none waits. `host_rate`: requests a second to a host."""
    if not hosts:
        return None
    mean = None
    if folder.exists():
        with LedgerQueries(folder.root) as ledger:
            (row,) = ledger.rows("SELECT avg(coalesce(bytes, 0)) AS mean FROM fetches")
            mean = row["mean"]
    hours = max(hosts.values()) / host_rate / 3600 if host_rate else None
    megabytes = mean * hosts.total() / 1e6 if mean is not None else None
    return {"urls": hosts.total(), "hosts": len(hosts), "hours": hours, "megabytes": megabytes}


def _host(url: str) -> str:
    """The host of a URL, as far as it has one."""
    return url.partition("://")[2].partition("/")[0].rpartition("@")[2].lower()


def _video_hours(rows: Sequence[dict[str, Any]], total: int) -> float | None:
    """By the declared lengths of some videos, in proportion to their bytes; `total`: bytes of all."""
    places = list(map(_place, rows))
    seconds, size, until = 0.0, 0, time.monotonic() + ASKED_S
    with MediaReader() as media:
        for place in sorted(places, key=reading_order):
            if time.monotonic() > until:
                break
            try:
                length, _ = media.length(place)
            except (DataError, MachineError):  # it will be a row with its reason
                continue
            seconds, size = seconds + length, size + (place.size if length else 0)
    return seconds / size * total / 3600 if size else None


def _languages(rows: Sequence[dict[str, Any]], recipe: Recipe) -> list[dict[str, Any]]:
    """Languages of some texts, as the recipe reads them and by its scorer, else by CLD2."""
    if not rows:
        return []
    config = replace(recipe.score, scorers={LANGUAGE: recipe.score.scorers.get(LANGUAGE, {})})
    found, until = Counter[str](), time.monotonic() + ASKED_S
    scorer = ItemScorer(config, {})
    try:
        for row in sorted(rows, key=lambda row: reading_order(_place(row))):
            if time.monotonic() > until:
                break
            _, samples = scorer.score(row)
            found.update(str(sample.get("text_language") or "unknown") for sample in samples[:1])
    finally:
        scorer.close()
    return [{"language": language, "texts": count} for language, count in found.most_common()]


def _place(row: dict[str, Any]) -> Place:
    return place_of(row["path"], row["offset"], row["size"], row["member"])


def _cost(
    items: int,
    video_hours: float | None,
    here: Mapping[str, int],
    text_bytes: int,
    folder: RunFolder,
    recipe: Recipe,
) -> tuple[float | None, float | None, str]:
    """CPU hours and MB, by what the run folder has measured, else by the benchmark's rates; and which of both.

    `here`: items by kind whose bytes are here.
    """
    if folder.exists():
        with LedgerQueries(folder.root) as ledger:
            (done,) = ledger.rows(_MEASURED) if ledger.has("timings") else [{"items": 0}]
        if done["items"]:
            written = sum(path.stat().st_size for path in folder.root.rglob("*.parquet"))
            share = items / done["items"]
            if video_hours and done["video_s"]:
                share = 3600 * video_hours / done["video_s"]
            return share * done["cpu_s"] / 3600, share * written / 1e6, "as this run has taken so far"
    seconds, rates = _seconds(video_hours, here, text_bytes, recipe.score.scorers)
    if not rates:
        return None, None, "not known before the first items are scored"
    disk = None
    if not here.get("video"):
        disk = here.get("image", 0) * IMAGE_BYTES * recipe.tokens.area / 512**2 + text_bytes * TEXT_SHARE
        disk = (disk + sum(here.values()) * ROW_BYTES) / 1e6
    kept = "; the disk if all is kept" if disk is not None else ""
    return seconds / 3600, disk, f"to score, at {', '.join(rates)} (docs/benchmarks.md){kept}"


def _seconds(
    video_hours: float | None, here: Mapping[str, int], text_bytes: int, scorers: Collection[str]
) -> tuple[float, list[str]]:
    """CPU-seconds of the score stage, and the rates that they come from, of the kinds that are there."""
    seconds, rates = 0.0, []
    if video_hours:
        rate = VIDEO_RATE + (RAFT_RATE if "motion_raft" in scorers else 0.0)
        seconds += 3600 * video_hours * rate
        rates.append(f"{rate:.2f} CPU-s a second of video")
    if here.get("image"):
        rate = IMAGE_RATE + (DETECTOR_RATE if "text" in scorers else 0.0)
        seconds += here["image"] * rate
        rates.append(f"{rate:.3f} CPU-s a picture")
    if text_bytes and "gopher_repetition" in scorers:
        seconds += text_bytes / 1e6 * TEXT_RATE
        rates.append(f"{TEXT_RATE:.2f} CPU-s a MB of text")
    return seconds, rates
