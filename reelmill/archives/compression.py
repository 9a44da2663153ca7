"""Compressed streams: gzip, Zstandard, bzip2 and xz read forward only, with a bound on bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from backports import zstd

from reelmill.archives.heads import compression_of
from reelmill.errors import Refused
from reelmill.media.source import Source

MAX_RATIO = 250
"""Bytes that a compressed byte may become, on average from the start. Text packs to a tenth, logs to a hundredth."""
FREE_BYTES = 256 * 1024**2
"""What is allowed beside that: small files may be very even."""
_BUFFER = 1024 * 1024
_ERRORS = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zstd.ZstdError)


@contextmanager
def content_of(source: Source) -> Iterator[io.BufferedReader]:
    """A file's content as a stream: seekable where nothing is compressed, else read forward only.

    Reading raises Refused for what is broken, ends too early, or is a bomb.
    """
    with source.open() as raw:
        compression = compression_of(raw.peek(16))
        yield raw if compression is None else io.BufferedReader(_Bounded(raw, compression), _BUFFER)


class _Counted(io.RawIOBase):
    """Counts what is read of a file."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self.count = raw, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        self.count += len(data)
        return len(data)


class _Bounded(io.RawIOBase):
    """The content, as long as it stays in proportion to what was read of the file."""

    def __init__(self, raw: BinaryIO, compression: str) -> None:
        self._read = _Counted(raw)
        self._content: io.BufferedIOBase = _OPENERS[compression](io.BufferedReader(self._read, 65536))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._content.read1(len(buffer))  # what precedes a break is not lost
        except _ERRORS as error:
            raise Refused(f"corrupt: after {self._position} bytes: {error}") from None
        self._position += len(data)
        if self._position > FREE_BYTES + MAX_RATIO * self._read.count:
            raise Refused(f"bomb: {self._read.count} bytes became more than {self._position}")
        buffer[: len(data)] = data
        return len(data)


_OPENERS: dict[str, Callable[[Any], Any]] = {
    "gz": lambda raw: gzip.GzipFile(fileobj=raw),
    "zst": zstd.ZstdFile,
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}
