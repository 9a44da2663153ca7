"""The reader of folder trees, with whatever other readers read inside of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from reelmill.curation.readers import names
from reelmill.curation.readers.contract import Place, Reader, reader_of
from reelmill.curation.readers.item import Item
from reelmill.errors import is_utf8
from reelmill.media.source import Source
from reelmill.os_errors import os_failure

LINKS = "links to folders"
"""What links to folders are counted under."""


class FolderReader(Reader):
    """A folder tree; sidecars lie beside their item (`a.mp4`, `a.json`, `a.txt`).

    A file or folder that another reader accepts is read by that one. Links to folders are not followed.
    """

    reads = "a folder tree"

    @classmethod
    def accepts(cls, place: Place) -> bool:
        """A folder."""
        return place.path.is_dir()

    def items(self, place: Path) -> Iterator[Item]:
        """Items in the order of sorted names, folder by folder."""
        root = place.resolve()
        for at, folders, files in os.walk(root, onerror=_raise):
            yield from self._folder(root, Path(at), sorted(files))
            folders.sort()
            yield from self._taken_by_others(root, Path(at), folders)

    def _folder(self, root: Path, folder: Path, files: list[str]) -> Iterator[Item]:
        own: dict[str, Source] = {}
        for file in files:
            path = folder / file
            name = names.encodable(path.relative_to(root).as_posix())
            if not is_utf8(str(path)):
                yield from self.no_file(name, str(root), "its name is not UTF-8; rename it", "name_not_utf8")
            elif path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                yield from self.no_file(name, str(path), "a link to a place outside the dump", "link_outside_dump")
            elif not path.is_file():
                yield from self.no_file(name, str(path), "a link to nothing, a pipe or a device")
            elif names.suffix(name) not in names.PLAIN and (reader := self._reader_of(path)):
                yield from self.items_within(reader, path, names.uri(name))
            else:
                own[name] = Source(str(path), 0, path.stat().st_size)
        yield from self.paired(own)

    def _reader_of(self, path: Path) -> Reader | None:
        return reader_of(path, self.readers, self.columns, opt_outs=self.opt_outs)

    def _taken_by_others(self, root: Path, at: Path, folders: list[str]) -> Iterator[Item]:
        """Items of the subfolders that another reader accepts, which leave the walk; links are counted."""
        for name in list(folders):
            path = at / name
            if path.is_symlink():
                self.ignored[LINKS] += 1
                continue
            reader = self._reader_of(path)
            if reader is not None and type(reader) is not type(self):
                folders.remove(name)
                yield from self.items_within(reader, path, names.uri(names.encodable(str(path.relative_to(root)))))


def _raise(error: OSError) -> NoReturn:
    raise os_failure(error, f"cannot read {error.filename}")
