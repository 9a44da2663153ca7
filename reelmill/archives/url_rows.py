"""A row of a URL table as the member that it stands for: its address, its spans, the digest of its bytes, the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reelmill.archives.columns import DIGEST, SIDE, SPANS, Meaning, plain_name, said, storable
from reelmill.archives.contract import Member
from reelmill.archives.spans import BOTH, END, START, spans_of
from reelmill.errors import Refused

_VIDEO_ID = re.compile(r"[\w-]{11}")
_DIGESTS = {"sha256": re.compile(r"[0-9a-f]{64}"), "md5": re.compile(r"[0-9a-f]{32}")}
_WIDTH, _HEIGHT = ("width", "originalwidth", "w"), ("height", "originalheight", "h")
_TAKEN = {"url", *START, *END, *BOTH, *_DIGESTS}


def address_row(
    number: int, name: str, row: Mapping[str, Any], table: Meaning, columns: Mapping[str, str] | None
) -> Member:
    """The member of a row. `columns`: what a recipe calls columns whose names do not tell, `{"url": "img_src"}`."""
    assert table.address is not None
    url = _address_in(row.get(table.address))
    called = {theirs: ours for ours, theirs in (columns or {}).items()}
    renamed = {called.get(key, key): value for key, value in row.items() if key != table.address}
    plain = {plain_name(key): value for key, value in reversed(renamed.items())}
    problem = None if url else f"no_url: the row's `{table.address}` is empty"
    known: dict[str, Any] = {"url": url}
    try:
        spans = spans_of(plain) if table.kind == "video" else []
    except Refused as refusal:
        spans, problem = [], str(refusal)
    if spans:
        known[SPANS] = [list(span) for span in spans]
    taken = _TAKEN if spans else {"url", *_DIGESTS}
    rest = {key: value for key, value in renamed.items() if plain_name(key) not in taken}
    if any(text for *_, text in spans):  # each span has its own
        rest = {key: value for key, value in rest.items() if plain_name(key) not in ("caption", "captions")}
    known |= {DIGEST: _digest(plain), SIDE: _side(plain)}
    return Member(number, name, kind=table.kind, known={**said(rest), **known}, problem=problem, is_address=True)


def _address_in(value: Any) -> str:
    """The address in a cell; a video of YouTube's is often named by its id alone. Nothing where there is none."""
    text = storable(value.strip()) if isinstance(value, str) else ""
    return f"https://www.youtube.com/watch?v={text}" if _VIDEO_ID.fullmatch(text) else text


def _digest(plain: Mapping[str, Any]) -> str | None:
    """`sha256:HEX` or `md5:HEX` of the bytes; hashes of other things (LAION's `hash`, perceptual ones) are none."""
    for name, pattern in _DIGESTS.items():
        value = str(plain.get(name) or "").strip().lower()
        if pattern.fullmatch(value):
            return f"{name}:{value}"
    return None


def _side(plain: Mapping[str, Any]) -> float | None:
    """The shorter side of the picture, pixels, as the table states it."""
    sides = [next((_number(plain[name]) for name in names if name in plain), None) for names in (_WIDTH, _HEIGHT)]
    return min(side for side in sides if side is not None) if None not in sides else None


def _number(value: Any) -> float | None:
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,7}(\.\d{1,6})?\s*", value):
        return float(value)
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e7 else None
