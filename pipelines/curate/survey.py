"""`reelmill curate --plan-only`: what a dump holds, and about what it will cost by what was measured."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from reelmill.curation.readers import names
from reelmill.errors import DataError, MachineError
from reelmill.media.reader import MediaReader
from reelmill.media.source import place_of, reading_order
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.tables import print_table
from reelmill.terminal import say

ASKED_VIDEOS = 64
ASKED_S = 30.0
"""Videos whose headers are read, and seconds of the clock that may take."""
VIDEO_RATE, RAFT_RATE = 0.12, 0.24
"""CPU-seconds a second of 1280x720 video, by bench/curate.py (docs/benchmarks.md): the chain, and RAFT beside it."""
_MEASURED = """SELECT sum(cpu_s) AS cpu_s, (SELECT count(*) FROM items) AS items,
    (SELECT sum(duration_s) FROM items WHERE kind = 'video') AS video_s FROM timings"""


@dataclass(frozen=True)
class Survey:
    """Formats with kinds, items and MB; refused items by reason; hours of video where headers tell; the cost.

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


def survey(rows: Sequence[dict[str, Any]], folder: RunFolder, scorers: Sequence[str], host_rate: float = 0.0) -> Survey:
    """What the rows of a plan hold that wait to be scored. `host_rate`: requests a second to one host."""
    items, size, refused = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[str]()
    for row in rows:
        if row["problem"]:
            refused[row["problem"].partition(":")[0]] += 1
            continue
        known = (names.label(row["path"]), row["kind"])
        items[known] += 1
        size[known] += row["size"]
    formats = [
        {"format": form, "kind": kind, "items": items[form, kind], "megabytes": round(size[form, kind] / 1e6, 1)}
        for form, kind in sorted(items)
    ]
    reasons = [{"reason": reason, "items": count} for reason, count in refused.most_common()]
    here = [row for row in rows if row["url"] is None and not row["problem"]]
    hours = _video_hours([row for row in here if row["kind"] == "video"])
    addresses = _addresses([row for row in rows if row["url"] is not None and not row["problem"]], folder, host_rate)
    return Survey(formats, reasons, hours, *_cost(len(rows), hours, folder, scorers), addresses)


def print_survey(found: Survey, console: Console) -> None:
    """The same on a terminal."""
    print_table(console, found.formats, "What is there")
    if found.refused:
        print_table(console, found.refused, "Refused unopened")
    if found.video_hours is not None:
        say(console, f"about {found.video_hours:,.2f} hours of video, by the headers of some", head="hours")
    if found.addresses:
        wait = f", at least {found.addresses['hours']:,.2f} hours" if found.addresses["hours"] else ""
        size = f", about {found.addresses['megabytes']:,.0f} MB" if found.addresses["megabytes"] is not None else ""
        line = f"{found.addresses['urls']:,} URLs at {found.addresses['hosts']:,} hosts{wait}{size}"
        say(console, line, head="fetch")
    cost = [f"{found.cpu_hours:,.2f} CPU hours"] if found.cpu_hours is not None else []
    cost += [f"{found.disk_mb:,.1f} MB of disk"] if found.disk_mb is not None else []
    say(console, f"about {' and '.join(cost)}, {found.measured}" if cost else found.measured, head="cost")


def _addresses(rows: Sequence[dict[str, Any]], folder: RunFolder, host_rate: float) -> dict[str, Any] | None:
    """What is known of URLs before they are asked; None where none waits."""
    known: set[str] = set()
    mean = None
    if folder.exists():
        with LedgerQueries(folder.root) as ledger:
            known = {row["item_id"] for row in ledger.rows("SELECT item_id FROM fetches")}
            (row,) = ledger.rows("SELECT avg(coalesce(bytes, 0)) AS mean FROM fetches")
            mean = row["mean"]
    hosts = Counter(_host(row["url"]) for row in rows if row["item_id"] not in known)
    if not hosts:
        return None
    hours = max(hosts.values()) / host_rate / 3600 if host_rate else None
    megabytes = mean * hosts.total() / 1e6 if mean is not None else None
    return {"urls": hosts.total(), "hosts": len(hosts), "hours": hours, "megabytes": megabytes}


def _host(url: str) -> str:
    """The host of a URL, as far as it has one."""
    return url.partition("://")[2].partition("/")[0].rpartition("@")[2].lower()


def _video_hours(rows: Sequence[dict[str, Any]]) -> float | None:
    """By the declared lengths of videos spread over the dump, in proportion to their bytes."""
    step = max(len(rows) // ASKED_VIDEOS, 1)
    places = [place_of(row["path"], row["offset"], row["size"], row["member"]) for row in rows[::step]]
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
    return seconds / size * sum(row["size"] for row in rows) / 3600 if size else None


def _cost(
    items: int, video_hours: float | None, folder: RunFolder, scorers: Sequence[str]
) -> tuple[float | None, float | None, str]:
    """CPU hours and MB, by what the run folder has measured, else by the benchmark's rates; and which of both."""
    if folder.exists():
        with LedgerQueries(folder.root) as ledger:
            (done,) = ledger.rows(_MEASURED) if ledger.has("timings") else [{"items": 0}]
        if done["items"]:
            written = sum(path.stat().st_size for path in folder.root.rglob("*.parquet"))
            share = items / done["items"]
            if video_hours and done["video_s"]:
                share = 3600 * video_hours / done["video_s"]
            return share * done["cpu_s"] / 3600, share * written / 1e6, "as this run has taken so far"
    if not video_hours:
        return None, None, "not known before the first items are scored"
    rate = VIDEO_RATE + (RAFT_RATE if "motion_raft" in scorers else 0.0)
    return (
        video_hours * rate,
        None,
        f"at {rate:.2f} CPU-s a second of video (docs/benchmarks.md)",
    )
