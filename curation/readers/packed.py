"""The reader of archives: what the child lists in them becomes items, in the archive's order.

Members that lie in the file as they are become byte ranges; others are unpacked when they are scored
(`isolation/unpacking.py`). Sidecars are read with the list, since they may lie before or behind their items.
"""

from __future__ import annotations

import atexit
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, cast

from reelmill.archives.heads import begins_archive
from reelmill.archives.messages import LISTED, MAX_SIDECAR, MESSAGE_BYTES
from reelmill.archives.spans import MAX_SPANS
from reelmill.curation.interfaces import Kind
from reelmill.curation.readers import names
from reelmill.curation.readers.contract import Place, Reader
from reelmill.curation.readers.item import Item
from reelmill.curation.readers.pairing import Group, pair, reunite
from reelmill.curation.sidecars import Oversized, Sidecar, Span, join_sidecars, stated, stated_by_row
from reelmill.errors import MachineError
from reelmill.isolation.parent import Child, IsolationConfig, ItemFailed
from reelmill.media.source import Packed, Source
from reelmill.media.source import Place as Bytes

JOB = "reelmill.archives.jobs:listing"


@dataclass
class _Listed:
    """What an archive holds: groups of files by key, sidecars by the place they stand for, what is wrong with it."""

    groups: list[Group] = field(default_factory=lambda: [Group("")])
    sidecars: dict[Bytes, bytes | Oversized] = field(default_factory=dict)
    problem: str | None = None


class PackedReader(Reader):
    """Members of zips and compressed tars, where those with one key belong together as in a WebDataset tar; texts of
    JSON lines; texts and media of Parquet's cells; media, pages and texts of WARC's records; addresses of tables."""

    reads = "a zip, a compressed tar, JSON lines, Parquet, WARC or a table of URLs"
    is_named = True

    @classmethod
    def accepts(cls, place: Place) -> bool:
        """A file that begins like one of these, or like a compressed file that may hold one."""
        return begins_archive(place.head, place.columns)

    def items(self, place: Path) -> Iterator[Item]:
        """Items in the order of the archive; a damaged one gives what can be read, then a refused item."""
        whole = Source(str(place), 0, place.stat().st_size)
        options = {"columns": dict(self.columns), "opt_outs": self.opt_outs}
        messages = _lister().run(JOB, whole, options, LISTED, MESSAGE_BYTES)
        try:
            body, _ = next(messages)
            if not body["format"]:
                self.ignored[names.label(place.name)] += 1
            elif body["keyed"]:
                yield from self._keyed(messages, place)
            else:
                yield from _clips_together(self._plain(messages, place))
        except ItemFailed as failure:
            if failure.reason_class == "machine":
                raise MachineError(f"{place} cannot be listed: {failure.reason}") from None
            yield Item("", "video", whole, problem=failure.reason, is_archive=True)

    def _keyed(self, messages: Iterator[Any], place: Path) -> Iterator[Item]:
        listed = _Listed()
        for body, arrays in messages:
            if body["type"] == "rest":
                listed.problem = body["problem"]
                break
            self._add(listed, body, arrays, place)
        reunite(listed.groups)
        times: Counter[str] = Counter()
        for group in listed.groups:
            for item in (*group.refused, *self._paired(group, listed)):
                times[item.uri] += 1
                yield item if times[item.uri] == 1 else replace(item, uri=f"{item.uri}#{times[item.uri]}")
        if listed.problem:
            yield self._broken(place, listed.problem)

    def _add(self, listed: _Listed, body: dict[str, Any], arrays: dict[str, Any], place: Path) -> None:
        name, groups = body["name"], listed.groups
        if problem := body.get("problem"):
            keyword, _, facts = problem.partition(": ")
            groups[-1].refused.extend(self.no_file(name, str(place), facts or problem, keyword))
            return
        bytes_at = _bytes_at(body, place)
        if body["type"] == "sidecar":
            data = arrays["data"]
            listed.sidecars[bytes_at] = data.tobytes() if body["size"] <= MAX_SIDECAR else Oversized(body["size"])
        key = names.composed(names.key(name))
        if key != groups[-1].key or name in groups[-1].files:
            groups.append(Group(key))
        groups[-1].files[name] = bytes_at

    def _paired(self, group: Group, listed: _Listed) -> Iterator[Item]:
        items, ignored = pair(group.files, group.key)
        self.ignored.update(map(names.label, ignored))
        for item in items:
            known = Sidecar()
            if item.json or item.text:
                json_data, text_data = (listed.sidecars[one] if one else None for one in (item.json, item.text))
                known = join_sidecars(json_data, text_data)
            yield replace(item, json=None, text=None, known=known)

    def _plain(self, messages: Iterator[Any], place: Path) -> Iterator[Item]:
        """Items of an archive that says itself what its members are."""
        for body, _ in messages:
            if body["type"] == "rest":
                self.ignored.update({what: int(count) for what, count in json.loads(body["passed_over"]).items()})
                if body["problem"]:
                    yield self._broken(place, body["problem"])
            elif body["type"] == "member":
                kind = cast(Kind, body["kind"] or names.KINDS.get(names.suffix(body["name"]), "image"))
                state = stated_by_row if body["address"] else stated
                known = state(json.loads(body["known"])) if body["known"] else Sidecar()
                uri, problem = names.uri(body["name"]), body["problem"]
                if body["address"] and problem is None and known.url is None:
                    problem = "no_url: what stands for the row's address is no text"
                url = known.url if body["address"] and problem is None else None
                yield Item(
                    uri, kind, _bytes_at(body, place), problem=problem, known=known, url=url, is_address=body["address"]
                )

    def _broken(self, place: Path, problem: str) -> Item:
        return Item("", "video", Source(str(place), 0, place.stat().st_size), problem=problem, is_archive=True)


def _clips_together(items: Iterable[Item]) -> Iterator[Item]:
    """Rows one after another that state spans of one video (Koala-36M) are one item: it is fetched once."""
    last: Item | None = None
    for item in items:
        joined = _joined(last, item) if last is not None else None
        if last is not None and joined is None:
            yield last
        last = joined or item
    if last is not None:
        yield last


def _joined(first: Item, second: Item) -> Item | None:
    """Both as one; None where they are of two videos."""
    if first.url is None or first.url != second.url or first.known is None or second.known is None:
        return None
    spans = {span[:2]: span for item in (second, first) for span in _with_captions(item.known)}
    if not (first.known.spans and second.known.spans) or len(spans) > MAX_SPANS:
        return None
    known = replace(first.known, alt=None, spans=tuple(spans[key] for key in sorted(spans)))
    return replace(first, known=known)


def _with_captions(known: Sidecar | None) -> list[Span]:
    """The spans, each with its caption, which is the row's where it has one span."""
    assert known is not None
    return [span._replace(alt=span.alt or known.alt) for span in known.spans]


def _bytes_at(body: dict[str, Any], place: Path) -> Bytes:
    if body["offset"] is not None:
        return Source(str(place), body["offset"], body["size"])
    return Packed(str(place), body["number"], body["size"])


@cache
def _lister() -> Child:
    """The child that lists archives, one for all of them: it takes longer to start than to list a small one."""
    child = Child(IsolationConfig(item_s=inf))
    atexit.register(child.close)
    return child
