"""Spans of a video as tables state them: Panda-70M, Koala-36M, OpenVid, WebVid's kin. Seconds or time codes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from reelmill.errors import Refused, brief

START = ("start", "starts", "starttime", "startsec", "startseconds", "starts", "begin", "clipstart")
END = ("end", "ends", "endtime", "endsec", "endseconds", "clipend")
BOTH = ("timestamp", "timestamps", "timestamplist", "spans", "segments", "clips")
"""Plain names of columns: of where spans begin, where they end, and of both in pairs."""
CAPTIONS = ("caption", "captions")
MAX_SPANS = 2000
MAX_S = 1e6
_TIME = re.compile(r"(?:(\d{1,4}):)?(?:(\d{1,4}):)?(\d{1,7}(?:\.\d{1,9})?)")
_TEXT = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.S)
_DAY = re.compile(r"\d{4}-\d\d-\d\d")

Span = tuple[float, float, str | None]
"""Where it begins and ends, seconds, and its own caption."""


def spans_of(row: Mapping[str, Any]) -> list[Span]:
    """The spans that a row states, by its plain names; none without such a column. Raises Refused for nonsense."""
    both = next((row[name] for name in BOTH if row.get(name)), None)
    starts = next((row[name] for name in START if _is_there(row.get(name))), None)
    ends = next((row[name] for name in END if _is_there(row.get(name))), None)
    if starts is not None and ends is not None:
        times = [time for pair in zip(_times(starts), _times(ends), strict=False) for time in pair]
        if len(_times(starts)) != len(_times(ends)):
            raise Refused(f"malformed_span: {len(_times(starts))} starts and {len(_times(ends))} ends")
    elif both is None or _DAY.search(str(both)[:40]):  # when it was crawled
        return []
    else:
        times = _times(both)
    if len(times) % 2 or len(times) > 2 * MAX_SPANS:
        raise Refused(f"malformed_span: {len(times)} times; pairs are wanted, at most {MAX_SPANS}")
    captions = next((row[name] for name in CAPTIONS if row.get(name)), None)
    texts = _texts(captions) if captions is not None else []
    pairs = list(zip(times[::2], times[1::2], strict=True))
    own = texts if len(texts) == len(pairs) else [None] * len(pairs)
    found: dict[tuple[float, float], Span] = {}
    for (start, end), text in zip(pairs, own, strict=True):
        if not 0 <= start < end <= MAX_S:
            raise Refused(f"malformed_span: from {start:g} to {end:g} s")
        found.setdefault((start, end), (start, end, text))
    return sorted(found.values(), key=lambda span: span[:2])


def _is_there(value: Any) -> bool:
    return value is not None and value not in ("", [])


def _times(value: Any) -> list[float]:
    """All times in a value: a number of seconds, a time code, a list of either, or such a list as text."""
    if isinstance(value, bool):
        raise Refused("malformed_span: a time that is no number")
    if isinstance(value, int | float):
        return [float(value)]
    if isinstance(value, list):
        return [time for one in value for time in _times(one)]
    if isinstance(value, str):
        return [_seconds(*match.groups()) for match in _TIME.finditer(value)]
    raise Refused(f"malformed_span: {brief(value, 60)} is no time")


def _seconds(first: str | None, second: str | None, last: str) -> float:
    """`H:M:S`, `M:S` or `S`."""
    hours, minutes = (first, second) if second is not None else (None, first)
    return 3600.0 * int(hours or 0) + 60.0 * int(minutes or 0) + float(last)


def _texts(value: Any) -> list[str]:
    """The texts of a list, or of one that is written as JSON or as Python does; a text alone is one."""
    if isinstance(value, list):
        return [one for one in value if isinstance(one, str)]
    text = str(value).strip()
    if not (text.startswith("[") and text.endswith("]")):
        return [text]
    try:
        found = json.loads(text)
        return [one for one in found if isinstance(one, str)]
    except (ValueError, RecursionError):
        return [_unescaped(match.group(1) or match.group(2) or "") for match in _TEXT.finditer(text)]


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.S)
