"""Subtitles: SubRip and WebVTT files as cues, what is said from when to when. Untrusted text, bounded, only data.

Sources: the WebVTT specification (W3C), sections 4 and 6; SubRip's files as players read them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_CUES = 100_000
MAX_CUE_CHARACTERS = 2_000
_TIME = r"(?:(\d{1,4}):)?([0-5]?\d):([0-5]?\d)[.,](\d{1,3})"
_TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?$")
_TAG = re.compile(r"<[^<>]{0,200}>|\{\\[^{}]{0,200}\}")
"""WebVTT's and HTML's tags, and the overrides of other formats that SubRip files carry (`{\\an8}`)."""


@dataclass(frozen=True)
class Cue:
    """One line or more of text, on the screen from `start_s` until `end_s` (seconds)."""

    start_s: float
    end_s: float
    text: str


def parse_subtitles(text: str) -> list[Cue]:
    """The cues of a SubRip or WebVTT file, in the order of their times, at most MAX_CUES; none for what is neither.

    Comments, styles and regions are left out, and so are tags and cues that end before they begin. Where each cue
    repeats the last lines of the one before, as automatic captions do while they scroll, a line is kept once.
    """
    cues = sorted(_cues(text), key=lambda cue: (cue.start_s, cue.end_s))
    return list(_without_repeats(cues))


def spoken_between(cues: Iterable[Cue], start_s: float, end_s: float) -> str:
    """The text of the cues of which at least half lies between two times, joined by blanks."""
    inside = (cue for cue in cues if min(cue.end_s, end_s) - max(cue.start_s, start_s) >= (cue.end_s - cue.start_s) / 2)
    return " ".join(" ".join(cue.text.split("\n")) for cue in inside)


def decode_subtitles(data: bytes) -> str:
    """A file's bytes as text: UTF-16 where a byte order mark says so, UTF-8, else Windows-1252."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _cues(text: str) -> Iterator[Cue]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd").split("\n")
    found, at = 0, 0
    while at < len(lines) and found < MAX_CUES:
        timing = _TIMING.match(lines[at]) if "-->" in lines[at] else None
        at += 1
        if timing is None:
            continue
        said = []
        while at < len(lines) and lines[at].strip() and "-->" not in lines[at]:
            said.append(lines[at])
            at += 1
        if at < len(lines) and "-->" in lines[at] and said and said[-1].strip().isdigit():
            said.pop()  # the number of the next cue: the blank line between is missing
        start_s, end_s = _seconds(timing.groups()[:4]), _seconds(timing.groups()[4:])
        plain = [line for line in map(_plain, said) if line]
        if plain and end_s > start_s:
            found += 1
            yield Cue(start_s, end_s, "\n".join(plain)[:MAX_CUE_CHARACTERS])


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = parts
    return (
        int(hours or 0) * 3600
        + int(minutes or 0) * 60
        + int(seconds or 0)
        + int((fraction or "0").ljust(3, "0")) / 1000
    )


def _plain(line: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", line)).split())


def _without_repeats(cues: Iterable[Cue]) -> Iterator[Cue]:
    before: list[str] = []
    for cue in cues:
        lines = cue.text.split("\n")
        shared = next((n for n in range(min(len(before), len(lines)), 0, -1) if before[-n:] == lines[:n]), 0)
        before = lines
        if lines[shared:]:
            yield Cue(cue.start_s, cue.end_s, "\n".join(lines[shared:]))
