"""Readers: what lies in a dump, item by item, without opening anything but directories and tar headers.

A reader turns a place into `Item`s with the byte range of each item and of its sidecars. Bytes are read later, by
workers and in the untrusted child. Names found in a dump are only ever data: they become a `uri` text, never a path to
write.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NoReturn

from reelmill.curation.interfaces import Kind
from reelmill.errors import DataError
from reelmill.media.source import Source

_SUFFIXES: dict[Kind, str] = {
    "video": ".mp4 .m4v .mov .mkv .webm .avi .flv .ogv .wmv .asf .mpg .mpeg .ts .3gp",
    "image": ".jpg .jpeg .png .webp .gif .bmp .tif .tiff .avif",
    "text": ".txt .md",
}
KINDS: dict[str, Kind] = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
MAX_URI = 1024
MAX_HEADER = 1024 * 1024


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

    def __init__(self) -> None:
        self.ignored = 0
        """Files met so far that are neither an item nor a sidecar."""

    @classmethod
    @abstractmethod
    def accepts(cls, place: Path) -> bool:
        """Whether this reader reads `place`."""

    @abstractmethod
    def items(self, place: Path) -> Iterator[Item]:
        """The items of `place`, uris relative to it."""


class WebDatasetReader(Reader):
    """Members of an uncompressed tar; neighbours with one key (the path up to the name's first dot) belong together.

    A sidecar is the member of an item's own stem (`a.left.json`), else of the key (`a.json`). A name that comes again
    begins another group; its uri ends in `#2`.
    """

    @classmethod
    def accepts(cls, place: Path) -> bool:
        """A file named .tar."""
        return place.suffix.lower() == ".tar" and place.is_file()

    def items(self, place: Path) -> Iterator[Item]:
        """Items of a tar, in member order. A damaged tar yields what it holds and then one refused item."""
        times: Counter[str] = Counter()
        for item in self._members(place):
            times[item.uri] += 1
            yield item if times[item.uri] == 1 else replace(item, uri=f"{item.uri}#{times[item.uri]}")

    def _members(self, place: Path) -> Iterator[Item]:
        group: dict[str, Source] = {}
        key = problem = None
        try:
            with _Headers(place) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in tar:
                    name = _uri(str(PurePosixPath(member.name)))
                    if member.isdir():
                        continue
                    if not member.isreg() or member.issparse():
                        yield from _no_file(name, str(place), "a link, a device or a sparse file in a tar")
                        continue
                    if _key(name) != key or name in group:
                        yield from self._flush(group, key)
                        group, key = {}, _key(name)
                    group[name] = _whole(member, place)
                _check_end(place, tar.offset)
        # tarfile lets the last three through for headers that were made to trip it
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            problem = f"corrupt_tar: {' '.join(_printable(str(error)).split())[:200]}"
        except OSError as error:
            _raise(error)
        yield from self._flush(group, key)
        if problem:
            yield Item("", "video", Source(str(place), 0, place.stat().st_size), problem=problem)

    def _flush(self, group: dict[str, Source], key: str | None) -> Iterator[Item]:
        self.ignored += _ignored(group)
        return _grouped(group, key)


class FolderReader(Reader):
    """A folder tree; sidecars lie beside their item (`a.mp4`, `a.json`, `a.txt`); its tars are read as WebDatasets."""

    @classmethod
    def accepts(cls, place: Path) -> bool:
        """A folder."""
        return place.is_dir()

    def items(self, place: Path) -> Iterator[Item]:
        """Items in the order of sorted names, folder by folder. Links to folders are not followed."""
        root = place.resolve()
        for folder, folders, names in os.walk(root, onerror=_raise):
            folders.sort()
            files: dict[str, Source] = {}
            for name in sorted(names):
                path = Path(folder) / name
                uri = _uri(path.relative_to(root).as_posix())
                if not _is_text(str(path)):
                    yield from _no_file(uri, str(root), "its name is not UTF-8; rename it", "name_not_utf8")
                elif path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                    yield from _no_file(uri, str(path), "a link to a place outside the dump", "link_outside_dump")
                elif WebDatasetReader.accepts(path):
                    yield from self._tar(path, uri)
                elif path.is_file():
                    files[uri] = Source(str(path), 0, path.stat().st_size)
                else:
                    yield from _no_file(uri, str(path), "a link to nothing, a pipe or a device")
            yield from _grouped(files)
            self.ignored += _ignored(files)

    def _tar(self, path: Path, uri: str) -> Iterator[Item]:
        reader = WebDatasetReader()
        for item in reader.items(path):
            yield replace(item, uri=f"{uri}/{item.uri}" if item.uri else uri)
        self.ignored += reader.ignored


READERS: tuple[type[Reader], ...] = (FolderReader, WebDatasetReader)


def find_reader(place: Path) -> Reader:
    """The reader of a folder tree or of one tar. DataError when nothing reads the place."""
    if not _is_text(str(place.resolve())):
        raise DataError(f"{_printable(str(place))}: the path of a dump must be UTF-8; rename it")
    for reader in READERS:
        if reader.accepts(place):
            return reader()
    raise DataError(
        f"{place} is no dump: found neither a folder nor a .tar file. Give a folder tree or a WebDataset tar."
    )


def read_dump(place: Path) -> Iterator[Item]:
    """Items of a folder tree or of one tar. DataError when nothing reads the place."""
    return find_reader(place).items(place)


class _Headers(io.BufferedReader):
    """A tar as `tarfile` walks over it: small reads, forward only, within the file; anything else is a trap."""

    def __init__(self, place: Path) -> None:
        super().__init__(io.FileIO(place))
        self._size = place.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes, allowed {MAX_HEADER}")
        return super().read(size)

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if not self.tell() <= position <= self._size:
            raise tarfile.ReadError(f"a member ends at {position}, outside the file of {self._size} bytes")
        return super().seek(position, whence)


def _whole(member: tarfile.TarInfo, place: Path) -> Source:
    """Where a member lies; ReadError when the tar ends before it does."""
    if not 0 <= member.size <= place.stat().st_size - member.offset_data:
        raise tarfile.ReadError("unexpected end of data")
    return Source(str(place), member.offset_data, member.size)


def _check_end(place: Path, offset: int) -> None:
    """ReadError unless the tar ends in a block of zeros, as `tarfile` itself stops at a broken header in silence."""
    with place.open("rb") as stream:
        stream.seek(offset)
        block = stream.read(tarfile.BLOCKSIZE)
    if block != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"{'a broken header' if block else 'no end mark'} at byte {offset}")


def _grouped(files: dict[str, Source], key: str | None = None) -> Iterator[Item]:
    """Items among files that lie together, each with the sidecars of its own stem, else those of `key`."""
    sidecars = {f"{_stem(name)}{_suffix(name)}": source for name, source in files.items()}
    media = {_stem(name) for name in files if KINDS.get(_suffix(name)) in ("video", "image")}
    described = media | ({key} if media else set())
    for name, source in files.items():
        kind = KINDS.get(_suffix(name))
        if kind is None or (_suffix(name) == ".txt" and _stem(name) in described):
            continue
        json = sidecars.get(f"{_stem(name)}.json") or sidecars.get(f"{key}.json")
        text = sidecars.get(f"{_stem(name)}.txt") or sidecars.get(f"{key}.txt")
        yield Item(name, kind, source, json, text if kind != "text" else None)


def _no_file(uri: str, path: str, words: str, problem: str = "not_a_file") -> Iterator[Item]:
    """A refused item, where the name says that one was meant."""
    if kind := KINDS.get(_suffix(uri)):
        yield Item(uri, kind, Source(path, 0, 0), problem=f"{problem}: {words}")


def _ignored(files: dict[str, Source]) -> int:
    return sum(_suffix(name) not in {*KINDS, ".json"} for name in files)


def _key(name: str) -> str:
    """WebDataset's key: the path up to the first dot of the last name."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}" if not last.startswith(".") else name


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _stem(name: str) -> str:
    return name[: len(name) - len(PurePosixPath(name).suffix)]


def _uri(name: str) -> str:
    """A name as text for a table: bytes that are not UTF-8 spelled out, a very long one cut and told apart by hash."""
    text = _printable(name)
    if len(text) <= MAX_URI:
        return text
    return f"{text[:MAX_URI]}~{hashlib.sha256(_stem(text).encode()).hexdigest()[:16]}{_suffix(text)[:16]}"


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _is_text(path: str) -> bool:
    return path == _printable(path)


def _raise(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename} cannot be read: {error.strerror}")
