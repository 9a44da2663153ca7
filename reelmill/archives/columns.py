"""What the columns of a table mean: texts, media, or addresses of media that somebody else holds.

Names are those of published tables (C4, FineWeb, Aquila; LAION, DataComp, COYO, CC12M, OpenVid, Panda-70M, Koala-36M;
img2dataset's and video2dataset's), compared without case, hyphens, underscores and blanks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

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
IMAGES = "reelmill.images"
"""What is known of a text that an archive's reader has decoded or taken out of a page: names that no table has."""
SPANS, DIGEST, SIDE = "reelmill.spans", "reelmill.digest", "reelmill.side"
"""What a row of a URL table states: spans as [start_s, end_s, caption], `sha256:HEX` or `md5:HEX`, the shorter side."""
URLS = "rows of URL tables"
DOWNLOADS = "rows of a downloader's table (its media are beside it)"
MAX_VALUE = 20_000
"""Characters of a text that is kept."""
MAX_VALUES = 64
"""Texts of a list that is kept."""
MAX_SAID = 50_000
"""Characters of all that is kept of a row."""


@dataclass(frozen=True)
class Meaning:
    """Which column holds the texts, or the addresses; `pages`: which hold lists of texts and of images in their order;
    `counted_as`: what rows that hold no item are counted as."""

    text: str | None = None
    pages: tuple[str, str] | None = None
    address: str | None = None
    kind: str = "image"
    """What is at the addresses, as far as the columns tell."""
    counted_as: str | None = None


def meaning(names: Iterable[str], columns: Mapping[str, str] | None = None) -> Meaning | None:
    """What a table of these columns holds; None where they tell of no texts, media or addresses.

    `columns`: what a recipe calls columns whose names do not tell, `{"url": "img_src"}`.
    """
    names = list(names)
    by_plain = {plain_name(name): name for name in reversed(names)}
    if columns and columns.get("url") in names:
        return Meaning(address=columns["url"], kind=_kind(by_plain))
    if by_plain.keys() >= OF_DOWNLOADS:
        return Meaning(counted_as=DOWNLOADS)
    if by_plain.keys() >= {"texts", "images"}:  # OBELICS, MINT-1T
        return Meaning(pages=(by_plain["texts"], by_plain["images"]))
    text = next((by_plain[name] for name in TEXT if name in by_plain), None)
    address = next((by_plain[name] for name in URL if name in by_plain), None)
    if address is not None and (text is None or any(name in by_plain for name in OF_MEDIA)):
        return Meaning(address=address, kind=_kind(by_plain))
    return Meaning(text=text) if text else None


def said(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says beside its item: short texts, numbers and lists of texts, as a JSON sidecar would, bounded."""
    kept: dict[str, Any] = {}
    left = MAX_SAID
    for name, value in row.items():
        text = _text_of(value)
        left -= len(name) + len(text or "")
        if text is not None and left > 0:
            kept[storable(name)] = storable(text) if isinstance(value, str) else value
    return kept


def _text_of(value: Any) -> str | None:
    """The text of a value that is kept, for its length; None for any other."""
    if isinstance(value, str):
        return value if len(value) <= MAX_VALUE else None
    if isinstance(value, list) and all(isinstance(one, str) and one == storable(one) for one in value):
        return "".join(value) if len(value) <= MAX_VALUES else None
    return str(value) if isinstance(value, int | float) and abs(value) < 1e300 else None


def storable(text: str) -> str:
    """The text without halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode()


def _kind(by_plain: Mapping[str, str]) -> str:
    return "video" if any(name in by_plain for name in OF_VIDEO) else "image"


def plain_name(name: str) -> str:
    """A column's name without case, hyphens, underscores and blanks."""
    return re.sub(r"[\s_-]", "", name).casefold()
