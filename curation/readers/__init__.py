"""Readers: what lies in a dump, item by item, without opening anything but directories and headers.

A reader turns a place into `Item`s with the byte range of each item and of its sidecars. Bytes are read later, by
workers and in the untrusted child. `READERS` are those of reelmill, in the order in which they are asked; a recipe puts
others before them (`plan.readers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reelmill.curation.readers.contract import Reader, reader_of
from reelmill.curation.readers.item import Item
from reelmill.curation.readers.names import encodable
from reelmill.errors import DataError, is_utf8
from reelmill.registry import find_class

READERS: dict[str, str] = {
    "folder": "reelmill.curation.readers.folder:FolderReader",
    "webdataset": "reelmill.curation.readers.webdataset:WebDatasetReader",
    "single": "reelmill.curation.readers.single:FileReader",
    "packed": "reelmill.curation.readers.packed:PackedReader",
}


def reader_classes(own: Sequence[str] = ()) -> list[type[Reader]]:
    """All readers of a run: `own`, named as `package.module:Class`, then ours. ConfigError when there is none."""
    found = [find_class("reader", name, READERS, Reader) for name in (*own, *READERS)]  # type: ignore[type-abstract]
    return list(dict.fromkeys(found))


def find_reader(
    place: Path, own: Sequence[str] = (), columns: Mapping[str, str] | None = None, *, opt_outs: bool = True
) -> Reader:
    """The reader of a dump. DataError when nothing reads the place.

    `columns`: what columns of URL tables mean whose names do not tell, as `plan.columns`; `opt_outs`: `plan.opt_outs`.
    """
    if not is_utf8(str(place.resolve())):
        raise DataError(f"{encodable(str(place))}: the path of a dump must be UTF-8; rename it")
    readers = reader_classes(own)
    if reader := reader_of(place, readers, columns, opt_outs=opt_outs):
        return reader
    found = "a file that is none of these" if place.is_file() else "nothing there"
    raise DataError(f"{place} is no dump: found {found}. Give {' or '.join(reader.reads for reader in readers)}.")


def read_dump(place: Path, own: Sequence[str] = ()) -> Iterator[Item]:
    """Items of a dump. DataError when nothing reads the place."""
    return find_reader(place, own).items(place)
