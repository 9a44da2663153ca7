"""Tars that are compressed: read from front to back. An uncompressed tar's members are byte ranges of the file and need
nothing of this (`curation/readers/webdataset.py`)."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any

from reelmill.archives.compression import content_of
from reelmill.archives.contract import CHUNK_BYTES, Archive, Member
from reelmill.errors import Refused, brief

MAX_HEADER = 1024 * 1024


class CompressedTar(Archive):
    """Members by their place in the tar, from 0. To reach a member, all before it is decompressed."""

    format = "tar"
    is_keyed = True

    def members(self, first: int = 0) -> Iterator[Member | None]:
        """As in the contract."""
        with content_of(self.source) as content:
            stream: Any = _Forward(content)
            try:
                with tarfile.open(fileobj=stream, mode="r:") as tar:
                    number = 0
                    while (info := tar.next()) is not None:
                        tar.members.clear()  # type: ignore[attr-defined]  # it would keep every header
                        yield _member(tar, number, info) if number >= first and not info.isdir() else None
                        number += 1
                    stream.check_end()
            # tarfile lets the last three through for headers that were made to trip it
            except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
                raise Refused(f"corrupt_tar: {brief(error)}") from None


def _member(tar: tarfile.TarFile, number: int, info: tarfile.TarInfo) -> Member:
    name = str(PurePosixPath(info.name))
    if not info.isreg() or info.issparse():
        return Member(number, name, problem="not_a_file: a link, a device or a sparse file in a tar")
    file = tar.extractfile(info)
    assert file is not None
    return Member(number, name, _chunks(file, info.size))


def _chunks(file: IO[bytes], size: int) -> Iterator[bytes]:
    while size:
        data = file.read(min(CHUNK_BYTES, size))
        if not data:
            raise Refused("corrupt_tar: unexpected end of data")
        size -= len(data)
        yield data


class _Forward:
    """A stream as `tarfile` walks over it: forward only, in reads of bounded size; anything else is a trap."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._position = 0
        self._block = b""

    def read(self, size: int) -> bytes:
        """The next bytes."""
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes, allowed {MAX_HEADER}")
        self._block = self._stream.read(size)
        self._position += len(self._block)
        return self._block

    def tell(self) -> int:
        """Bytes read so far."""
        return self._position

    def seek(self, position: int) -> int:
        """Go forward by reading."""
        if position < self._position:
            raise tarfile.ReadError(f"a member lies at {position}, before byte {self._position}")
        while self._position < position:
            data = self._stream.read(min(CHUNK_BYTES, position - self._position))
            if not data:
                raise tarfile.ReadError("unexpected end of data")
            self._position += len(data)
        return self._position

    def check_end(self) -> None:
        """Refused where `tarfile` stopped at anything but an end mark: at a broken header it does so in silence."""
        if self._block != bytes(tarfile.BLOCKSIZE):
            found = "a broken header" if self._block else "no end mark"
            raise Refused(f"corrupt_tar: {found} at byte {self._position - len(self._block)}")
        while data := self._stream.read(CHUNK_BYTES):
            if data.strip(b"\0"):
                raise Refused(f"corrupt_tar: what follows the end mark, from byte {self._position} on, is not read")
