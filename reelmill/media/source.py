"""Where an item's bytes lie, and a bounded, read-only file object over them."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from reelmill.errors import DataError

HEAD_BYTES = 64 * 1024


@dataclass(frozen=True)
class Source:
    """A byte range of a local file: a whole file, or a member of a tar."""

    path: str
    offset: int
    size: int
    faults: list[str] = field(default_factory=list, compare=False, repr=False, kw_only=True)
    """What went wrong while reading, so far. A decoder may take such an error for the end of the file."""

    def open(self) -> io.BufferedReader:
        """A seekable reader of exactly this range. DataError when the file is gone or cannot be read."""
        return io.BufferedReader(_Range(self.descriptor(), self), buffer_size=1 << 18)

    def sha256(self) -> str:
        """Hex SHA-256 of the item's bytes. DataError when they cannot be read."""
        with self.open() as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def descriptor(self) -> int:
        """The whole file, opened for reading; whoever asks closes it. DataError when it is gone or cannot be read."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for its writer
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(
                f"{self.path} is gone; put the dump back, or run `reelmill curate` with its new place"
            ) from None
        except PermissionError:
            raise DataError(f"{self.path} may not be read by this user; change its permissions") from None
        except OSError as error:
            raise DataError(f"{self.path} cannot be opened: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise DataError(f"{self.path} is no file; put the dump back, or run `reelmill curate` with its new place")
        return file

    def stamp(self) -> dict[str, int | str]:
        """What tells cheaply that the bytes are the same: `mtime_ns` of the file, `head_sha256` of its first 64 KiB."""
        with self.open() as stream:
            head = hashlib.sha256(stream.read(HEAD_BYTES)).hexdigest()
        return {"mtime_ns": Path(self.path).stat().st_mtime_ns, "head_sha256": head}

    def failed(self, message: str) -> DataError:
        """The error of a read that failed, which is noted."""
        self.faults.append(message)
        return DataError(message)


@dataclass(frozen=True)
class OpenSource(Source):
    """The same range of a file that is open already: what a child gets, which may open nothing itself."""

    file: int

    def descriptor(self) -> int:
        """A copy of the open file; readers keep a position each."""
        return os.dup(self.file)


@dataclass(frozen=True)
class UnpackedSource(Source):
    """A member of an archive, unpacked into a file without a name, which goes when nothing refers to it any more.

    `path` is the archive's.
    """

    unpacked: IO[bytes] = field(compare=False, repr=False)

    def descriptor(self) -> int:
        """A copy of the open file; readers keep a position each."""
        return os.dup(self.unpacked.fileno())


@dataclass(frozen=True)
class Packed:
    """A member of an archive: the archive's file, the member's number (`archives/contract.py`), its bytes unpacked.

    `isolation/parent.py` unpacks it, in the child.
    """

    path: str
    member: int
    size: int


Place = Source | Packed
"""Where an item's bytes lie."""


def place_of(path: str, offset: int, size: int, member: int | None = None) -> Place:
    """The place that a row of the plan tells of."""
    return Source(path, offset, size) if member is None else Packed(path, member, size)


def reading_order(place: Place) -> tuple[str, int]:
    """A key that puts members of an archive in its order, in which they are unpacked in one go, and leaves other places
    as they are."""
    return (place.path, place.member) if isinstance(place, Packed) else ("", 0)


class _Range(io.RawIOBase):
    """A window on an open file; reads beyond its end return nothing."""

    def __init__(self, file: int, source: Source) -> None:
        self._file, self._source = file, source
        self._offset, self._size, self._position = source.offset, source.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("seek before the start of the item")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), max(self._size - self._position, 0))
        if wanted == 0:
            return 0
        try:
            data = os.pread(self._file, wanted, self._offset + self._position)
        except OSError as error:  # the disk's or the network's fault, not the item's
            raise self._source.failed(f"reading failed: {error.strerror}") from None
        if not data:
            at = self._offset + self._position
            raise self._source.failed(f"the file ends at byte {at}, within the item: it was cut, or is still written")
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()
