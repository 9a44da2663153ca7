"""The reader of WebDataset tars: members with one key belong together, and lie where the tar's headers say."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from reelmill.curation.readers import names
from reelmill.curation.readers.contract import Place, Reader
from reelmill.curation.readers.item import Item
from reelmill.curation.readers.pairing import Group, reunite
from reelmill.media.source import Source
from reelmill.os_errors import os_failure

MAX_HEADER = 1024 * 1024
_MAGIC = slice(257, 262)
_CHUNK = 1024 * 1024


class WebDatasetReader(Reader):
    """Members of an uncompressed tar; those with one key (the path up to the name's first dot) belong together.

    A sidecar is the member of an item's own stem (`a.left.json`), else of the key (`a.json`); it may lie anywhere in
    the tar. A name that comes again begins another group; its uri ends in `#2`.
    """

    reads = "a WebDataset tar (uncompressed)"

    @classmethod
    def accepts(cls, place: Place) -> bool:
        """A file named .tar, or one that begins with a tar's header."""
        return (place.path.suffix.lower() == ".tar" and place.path.is_file()) or place.head[_MAGIC] == b"ustar"

    def items(self, place: Path) -> Iterator[Item]:
        """Items in the order of their keys' first members; a damaged tar gives what it holds, then a refused item."""
        groups = [Group("")]
        problem = self._read_into(groups, place)
        reunite(groups)
        times: Counter[str] = Counter()
        for group in groups:
            for item in (*group.refused, *self.paired(group.files, group.key)):
                times[item.uri] += 1
                yield item if times[item.uri] == 1 else replace(item, uri=f"{item.uri}#{times[item.uri]}")
        if problem:
            whole = Source(str(place), 0, place.stat().st_size)
            yield Item("", "video", whole, problem=f"corrupt_tar: {problem}", is_archive=True)

    def _read_into(self, groups: list[Group], place: Path) -> str:
        """Add what the tar's headers tell to `groups`; returns what is wrong with the tar, or nothing."""
        try:
            with _Headers(place) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in tar:
                    name = names.encodable(str(PurePosixPath(member.name)))
                    if member.isdir():
                        continue
                    if not member.isreg() or member.issparse():
                        facts = "a link, a device or a sparse file in a tar"
                        groups[-1].refused.extend(self.no_file(name, str(place), facts))
                        continue
                    key = names.composed(names.key(name))
                    if key != groups[-1].key or name in groups[-1].files:
                        groups.append(Group(key))
                    groups[-1].files[name] = _whole(member, place)
                return _problem_at_end(place, tar.offset)
        # tarfile lets the last three through for headers that were made to trip it
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            return " ".join(names.encodable(str(error)).split())[:200]
        except OSError as error:
            raise os_failure(error, f"cannot read {place}") from None


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


def _problem_at_end(place: Path, offset: int) -> str:
    """What is wrong where `tarfile` stopped: it does so at a broken header too, in silence."""
    with place.open("rb") as stream:
        stream.seek(offset)
        block = stream.read(tarfile.BLOCKSIZE)
        if block != bytes(tarfile.BLOCKSIZE):
            return f"{'a broken header' if block else 'no end mark'} at byte {offset}"
        while chunk := stream.read(_CHUNK):
            blank = len(chunk) - len(chunk.lstrip(b"\0"))
            if blank < len(chunk):
                at = stream.tell() - len(chunk) + blank
                return f"what follows the end mark, from byte {at} on, is not read; if it is another tar, split the two"
    return ""
