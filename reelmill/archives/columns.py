"""What the columns of a table mean: texts, media, or addresses of media that somebody else holds.

Names are those of published tables (C4, FineWeb, Aquila; LAION, DataComp, COYO, CC12M, OpenVid, Panda-70M, Koala-36M;
img2dataset's and video2dataset's), compared without case, hyphens, underscores and blanks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reelmill.archives.contract import Member

TEXT = ("text", "content", "rawcontent")
URL = ("url", "imageurl", "videourl", "imgurl", "link", "videolink", "videoid", "uri")
OF_MEDIA = (
    *("width", "height", "originalwidth", "originalheight", "similarity", "punsafe", "pwatermark", "aesthetic"),
    *("imagephash", "clipb32similarityscore", "clipsimilarityvitb32", "nsfwscore", "timestamp_list", "duration"),
)
"""What a table says of pictures and videos: with an address and one of these, its `text` is a caption."""
OF_VIDEO = ("videourl", "videolink", "videoid", "video", "timestamp", "duration", "fps", "start", "end")
"""What a table says of videos alone."""
OF_DOWNLOADS = {"key", "status", "errormessage"}
"""What img2dataset and video2dataset write beside their tars: a row a URL, whether it came or not."""
ENCODING, ENCODING_FROM, BOILERPLATE = "reelmill.encoding", "reelmill.encoding_from", "reelmill.boilerplate"
"""What is known of a text that an archive's reader has decoded or taken out of a page: names that no table has."""
URLS = "rows of URL tables"
DOWNLOADS = "rows of a downloader's table (its media are beside it)"
_VIDEO_ID = re.compile(r"[\w-]{11}")
MAX_VALUE = 20_000
"""Characters of a text that is kept."""
MAX_VALUES = 64
"""Texts of a list that is kept."""
MAX_SAID = 50_000
"""Characters of all that is kept of a row."""


@dataclass(frozen=True)
class Meaning:
    """Which column holds the texts, or the addresses; `counted_as`: what rows that hold no item are counted as."""

    text: str | None = None
    address: str | None = None
    kind: str = "image"
    """What is at the addresses, as far as the columns tell."""
    counted_as: str | None = None


def meaning(names: Iterable[str], columns: Mapping[str, str] | None = None) -> Meaning | None:
    """What a table of these columns holds; None where they tell of no texts, media or addresses.

    `columns`: what a recipe calls columns whose names do not tell, `{"url": "img_src"}`.
    """
    names = list(names)
    by_plain = {_plain(name): name for name in reversed(names)}
    if columns and columns.get("url") in names:
        return Meaning(address=columns["url"], kind=_kind(by_plain))
    if by_plain.keys() >= OF_DOWNLOADS:
        return Meaning(counted_as=DOWNLOADS)
    text = next((by_plain[name] for name in TEXT if name in by_plain), None)
    address = next((by_plain[name] for name in URL if name in by_plain), None)
    if address is not None and (text is None or any(name in by_plain for name in OF_MEDIA)):
        return Meaning(address=address, kind=_kind(by_plain))
    return Meaning(text=text) if text else None


def address_row(
    number: int, name: str, row: Mapping[str, Any], table: Meaning, columns: Mapping[str, str] | None
) -> Member:
    """The member of a row of a table of addresses."""
    assert table.address is not None
    url = address_in(row.get(table.address))
    problem = None if url else f"no_url: the row's `{table.address}` is empty"
    called = {theirs: ours for ours, theirs in (columns or {}).items()}
    others = {key: value for key, value in row.items() if key != table.address and _plain(key) != "url"}
    renamed = {called.get(key, key): value for key, value in others.items()}
    return Member(number, name, kind=table.kind, known={**said(renamed), "url": url}, problem=problem, is_address=True)


def said(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says beside its item: short texts, numbers and lists of texts, as a JSON sidecar would, bounded."""
    kept: dict[str, Any] = {}
    left = MAX_SAID
    for name, value in row.items():
        text = _text_of(value)
        left -= len(name) + len(text or "")
        if text is not None and left > 0:
            kept[_storable(name)] = _storable(text) if isinstance(value, str) else value
    return kept


def _text_of(value: Any) -> str | None:
    """The text of a value that is kept, for its length; None for any other."""
    if isinstance(value, str):
        return value if len(value) <= MAX_VALUE else None
    if isinstance(value, list) and all(isinstance(one, str) and one == _storable(one) for one in value):
        return "".join(value) if len(value) <= MAX_VALUES else None
    return str(value) if isinstance(value, int | float) and abs(value) < 1e300 else None


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _kind(by_plain: Mapping[str, str]) -> str:
    return "video" if any(name in by_plain for name in OF_VIDEO) else "image"


def address_in(value: Any) -> str:
    """The address in a cell; a video of YouTube's is often named by its id alone. Nothing where there is none."""
    text = _storable(value.strip()) if isinstance(value, str) else ""
    return f"https://www.youtube.com/watch?v={text}" if _VIDEO_ID.fullmatch(text) else text


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()
