"""The reader of a single file of media or text, with the sidecars beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reelmill.curation.readers import names
from reelmill.curation.readers.contract import Place, Reader
from reelmill.curation.readers.item import Item
from reelmill.curation.readers.pairing import SIDECARS
from reelmill.media.source import Source


class FileReader(Reader):
    """One video, image, sound or text; `a.mp4` takes `a.json`, `a.txt`, `a.srt` beside it, as in a folder."""

    reads = "a video, image or text"

    @classmethod
    def accepts(cls, place: Place) -> bool:
        """A file with the suffix of an item, which a link may name."""
        return names.suffix(place.path.name) in names.KINDS and place.path.is_file()

    def items(self, place: Path) -> Iterator[Item]:
        """The file."""
        stem = names.composed(names.stem(place.name))
        files = {place.name: Source(str(place), 0, place.stat().st_size)}
        for path in sorted(place.parent.iterdir()):
            may_belong = names.suffix(path.name) in (*SIDECARS, *names.SUBTITLES)
            if may_belong and names.composed(path.name).startswith(stem) and path.is_file():
                files[path.name] = Source(str(path), 0, path.stat().st_size)
        yield from (item for item in self.paired(files) if item.uri == names.uri(place.name))
        self.ignored.clear()
