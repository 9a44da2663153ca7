"""Readers: what lies in a dump, item by item, without opening anything but directories and tar headers.

A reader turns a place into `Item`s with the byte range of each item and of its sidecars. Bytes are read later, by
workers and in the untrusted child. Names found in a dump are only ever data: they become a `uri` text, never a path to
write.
"""

from __future__ import annotations

import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reelmill.curation.sources import Source
from reelmill.curation.stage import Kind
from reelmill.errors import DataError

_SUFFIXES: dict[Kind, str] = {
    "video": ".mp4 .m4v .mov .mkv .webm .avi .flv .ogv .wmv .asf .mpg .mpeg .ts .3gp",
    "image": ".jpg .jpeg .png .webp .gif .bmp .tif .tiff .avif",
    "text": ".txt .md",
}
KINDS: dict[str, Kind] = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}


@dataclass(frozen=True)
class Item:
    """One thing of a dump: where its bytes are, and its sidecars'.

    `uri` is the place within the dump, `tar/member` for a member. `problem` is set when the item is known to be
    unusable before it is opened (it then becomes a refused row).
    """

    uri: str
    kind: Kind
    source: Source
    json: Source | None = None
    text: Source | None = None
    problem: str | None = None


class Reader(ABC):
    """The reader contract: `accepts` a place, then yields its items in an order that depends on names alone."""

    @classmethod
    @abstractmethod
    def accepts(cls, place: Path) -> bool:
        """Whether this reader reads `place`."""

    @abstractmethod
    def items(self, place: Path) -> Iterator[Item]:
        """The items of `place`, uris relative to it."""


class WebDatasetReader(Reader):
    """Members of an uncompressed tar; those with one key (the path up to the name's first dot) belong together."""

    @classmethod
    def accepts(cls, place: Path) -> bool:
        """A file named .tar."""
        return place.suffix.lower() == ".tar" and place.is_file()

    def items(self, place: Path) -> Iterator[Item]:
        """Items of a tar, in member order. A damaged tar yields what it holds and then one refused item."""
        group: dict[str, Source] = {}
        key = None
        try:
            with tarfile.open(place, mode="r:") as tar:
                for member in tar:
                    if not member.isreg() or member.issparse():
                        continue
                    name = PurePosixPath(member.name)
                    stem, dot, suffix = name.name.partition(".")
                    member_key = str(name.with_name(stem)) if stem else member.name
                    if member_key != key:
                        yield from _grouped(group)
                        group, key = {}, member_key
                    source = Source(str(place), member.offset_data, member.size)
                    group[f"{member_key}{dot}{suffix}"] = source
            yield from _grouped(group)
        except tarfile.TarError as error:
            yield from _grouped(group)
            whole = Source(str(place), 0, place.stat().st_size)
            yield Item("", "video", whole, problem=f"corrupt_tar: {' '.join(str(error).split())[:200]}")


class FolderReader(Reader):
    """A folder tree; sidecars lie beside their item (`a.mp4`, `a.json`, `a.txt`); its tars are read as WebDatasets."""

    def __init__(self) -> None:
        self.ignored = 0

    @classmethod
    def accepts(cls, place: Path) -> bool:
        """A folder."""
        return place.is_dir()

    def items(self, place: Path) -> Iterator[Item]:
        """Items in the order of sorted names, folder by folder."""
        root = place.resolve()
        for folder, folders, names in os.walk(root):
            folders.sort()
            here = Path(folder)
            files: dict[str, Source] = {}
            for name in sorted(names):
                path = here / name
                uri = path.relative_to(root).as_posix().encode("utf-8", "replace").decode()
                if not path.resolve().is_relative_to(root):
                    if path.suffix.lower() in KINDS:
                        problem = "link_outside_dump: the file is a link to a place outside the dump"
                        yield Item(uri, KINDS[path.suffix.lower()], Source(str(path), 0, 0), problem=problem)
                elif WebDatasetReader.accepts(path):
                    for item in WebDatasetReader().items(path):
                        yield _within(uri, item)
                elif path.is_file():
                    files[uri] = Source(str(path), 0, path.stat().st_size)
            yield from _grouped(files)
            self.ignored += sum(Path(uri).suffix.lower() not in {*KINDS, ".json"} for uri in files)


READERS: tuple[type[Reader], ...] = (FolderReader, WebDatasetReader)


def read_dump(place: Path) -> Iterator[Item]:
    """Items of a folder tree or of one tar. DataError when nothing reads the place."""
    for reader in READERS:
        if reader.accepts(place):
            return reader().items(place)
    raise DataError(
        f"{place} is no dump: found neither a folder nor a .tar file. Give a folder tree or a WebDataset tar."
    )


def _within(prefix: str, item: Item) -> Item:
    uri = f"{prefix}/{item.uri}" if item.uri else prefix
    return Item(uri, item.kind, item.source, item.json, item.text, item.problem)


def _grouped(files: dict[str, Source]) -> Iterable[Item]:
    """Items among files that lie together, each with the sidecars of its own stem."""
    stems = {PurePosixPath(name).with_suffix("") for name in files if KINDS.get(_suffix(name)) in ("video", "image")}
    for name, source in files.items():
        kind = KINDS.get(_suffix(name))
        stem = PurePosixPath(name).with_suffix("")
        if kind is None or (kind == "text" and stem in stems):
            continue
        json = files.get(f"{stem}.json")
        text = files.get(f"{stem}.txt") if kind != "text" else None
        yield Item(name, kind, source, json, text)


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
