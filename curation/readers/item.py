"""An item of a dump, as a reader finds it."""

from __future__ import annotations

from dataclasses import dataclass

from reelmill.curation.interfaces import Kind
from reelmill.curation.sidecars import Sidecar
from reelmill.media.source import Place


@dataclass(frozen=True)
class Item:
    """One thing of a dump: where its bytes are, and its sidecars'.

    `uri` is the place within the dump, `tar/member` for a member; empty for the place itself. `problem` is set when the
    item is known to be unusable before it is opened (it then becomes a refused row). `known` is what an archive says of
    the item, in place of sidecars. `is_address`: a row of a URL table,
    whose bytes are to be fetched from `url`. `is_archive`: a broken archive itself, which is no more of one kind than
    of another.
    """

    uri: str
    kind: Kind
    source: Place
    json: Place | None = None
    text: Place | None = None
    problem: str | None = None
    known: Sidecar | None = None
    subtitles: Place | None = None
    url: str | None = None
    is_address: bool = False
    is_archive: bool = False
