"""Everything that lies in the sample dump, and the facts of what is rendered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from reelmill import weights
from reelmill.pipelines.sampledump import crawls, images, texts, videos
from reelmill.pipelines.sampledump.facts import ItemFact, Kind
from reelmill.pipelines.sampledump.real import REAL, Real

SOURCE = "reelmill sample dump"
LICENCE = "CC0-1.0"
MALFORMED = frozenset({"images/cutout.png"})
"""Items whose sidecar is broken JSON."""


@dataclass(frozen=True)
class Entry:
    """An item and what lies beside it: a sidecar, none, or one of broken JSON."""

    uri: str
    kind: Kind
    data: Callable[[], bytes]
    caption: str = ""
    licence: str = LICENCE
    url: str = ""
    source: str = SOURCE
    sidecar: Literal["json", "none", "malformed"] = "json"


def entries() -> list[Entry]:
    """All items, in the order of their uris."""
    rendered = [_rendered(video.uri, "video", video.data, video.caption) for video in videos.VIDEOS]
    rendered += [_rendered(still.uri, "image", still.data, still.caption) for still in (*images.STILLS, images.COPY)]
    original = next(video for video in videos.VIDEOS if video.uri == videos.DUPLICATE.duplicate_of)
    copies = [
        Entry(videos.DUPLICATE.uri, "video", original.data, sidecar="none"),
        Entry(videos.NOT_A_VIDEO.uri, "video", videos.PAGE.encode, sidecar="none"),
    ]
    words = [Entry(uri, "text", text.encode, url=_url(uri)) for uri, text in texts.TEXTS.items()]
    return sorted([*rendered, *copies, *words, *map(_real, REAL)], key=lambda entry: entry.uri)


def _rendered(uri: str, kind: Kind, data: Callable[[], bytes], caption: str) -> Entry:
    sidecar: Literal["json", "none", "malformed"] = "json" if caption else "none"
    if uri in MALFORMED:
        sidecar = "malformed"
    return Entry(uri, kind, data, caption, url=_url(uri), sidecar=sidecar)


def _url(uri: str) -> str:
    return f"https://crawl.example.org/{quote(uri)}"


def _real(real: Real) -> Entry:
    card = weights.cards()[real.card]
    package = card.sources[0]["package"]
    return Entry(real.uri, real.kind, weights.path(real.card).read_bytes, real.caption, card.licence, real.url, package)


FACTS: dict[str, ItemFact] = {
    fact.uri: fact
    for fact in sorted(
        [
            *(video.fact() for video in videos.VIDEOS),
            videos.NOT_A_VIDEO,
            videos.DUPLICATE,
            *(still.fact() for still in images.STILLS),
            images.DUPLICATE,
            *(texts.fact(uri) for uri in texts.TEXTS),
            *(fact for file in crawls.packed().values() for fact in file.facts),
        ],
        key=lambda fact: fact.uri,
    )
}
"""By uri, every rendered item. The real footage has no facts, only the promise that each item has a kept sample."""
