"""Jobs of the untrusted child on archives: what lies in one, and the bytes of its members."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from reelmill.archives.contract import CHUNK_BYTES, MAX_NAME, Archive, Member
from reelmill.archives.formats import open_archive
from reelmill.archives.messages import MAX_KNOWN, MAX_SIDECAR
from reelmill.errors import Refused, brief
from reelmill.isolation import wire
from reelmill.media.source import Source

SIDECARS = (".json", ".txt")
TICK_S = 1.0


def listing(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """What lies in an archive: its format, a message a member with its size, sidecars with their bytes, the rest.

    `format` is empty for a file that is no archive. Members are read through to learn their sizes, never stored.
    """
    archive = open_archive(source, options.get("columns"), opt_outs=options.get("opt_outs", False))
    if archive is None:
        yield {"type": "archive", "format": "", "keyed": False}, {}
        return
    yield {"type": "archive", "format": archive.format, "keyed": archive.is_keyed}, {}
    problem = None
    ticks = _Ticks()
    try:
        for member in archive.members():
            if member is None:
                yield from ticks.due()
            else:
                yield from _listed(archive, member, ticks)
    except Refused as refusal:
        problem = str(refusal)[:500]
    yield {"type": "rest", "problem": problem, "passed_over": json.dumps(archive.passed_over)[:MAX_KNOWN]}, {}


def _listed(archive: Archive, member: Member, ticks: _Ticks) -> Iterator[wire.Message]:
    name = member.name.encode("utf-8", "backslashreplace").decode()[:MAX_NAME]
    size, data, problem = member.size, bytearray(), member.problem
    is_sidecar = archive.is_keyed and name.lower().endswith(SIDECARS)
    if problem is None and not member.is_address and (size is None or is_sidecar):
        size = 0
        try:
            for chunk in member.chunks:
                size += len(chunk)
                if is_sidecar and size <= MAX_SIDECAR:
                    data += chunk
                yield from ticks.due()
        except Refused as refusal:
            problem = str(refusal)[:500]
    yield from ticks.due()
    body = {"number": member.number, "name": name, "size": size or 0}
    if is_sidecar and problem is None:
        whole = np.frombuffer(bytes(data) if size is not None and size <= MAX_SIDECAR else b"", np.uint8)
        yield {"type": "sidecar", **body, "offset": member.offset}, {"data": whole}
        return
    known = json.dumps(member.known, ensure_ascii=False) if member.known else None
    if known is not None and len(known) > MAX_KNOWN:
        problem = problem or f"too_large: {len(known)} characters beside it, allowed {MAX_KNOWN}"
        known = None
    facts = {"offset": member.offset, "kind": member.kind, "known": known, "problem": problem}
    yield {"type": "member", **body, **facts, "address": member.is_address}, {}


def unpack(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The bytes of an archive's members from number `first` on, each in messages of which the last says so."""
    archive = open_archive(source)
    if archive is None:
        raise Refused("corrupt: the archive is none any more")
    ticks = _Ticks()
    for member in archive.members(options["first"]):
        if member is None:
            yield from ticks.due()
            continue
        problem = member.problem
        try:
            for chunk in member.chunks if problem is None else ():
                for start in range(0, len(chunk), CHUNK_BYTES):
                    part = np.frombuffer(chunk[start : start + CHUNK_BYTES], np.uint8)
                    yield {"type": "bytes", "number": member.number}, {"data": part}
        except Refused as refusal:
            problem = str(refusal)
        yield {"type": "whole", "number": member.number, "problem": brief(problem, 500) if problem else None}, {}


class _Ticks:
    """Says every second that work goes on."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def due(self) -> Iterator[wire.Message]:
        """A heartbeat, where it is time for one."""
        if time.monotonic() - self._last > TICK_S:
            self._last = time.monotonic()
            yield {"type": "tick"}, {}
