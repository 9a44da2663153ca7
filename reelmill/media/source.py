"""Where an item's bytes lie, and a bounded, read-only file object over them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from reelmill.errors import DataError


@dataclass(frozen=True)
class Source:
    """A byte range of a local file: a whole file, or a member of a tar."""

    path: str
    offset: int
    size: int

    def open(self) -> io.BufferedReader:
        """A seekable reader of exactly this range. DataError when the file is gone or may not be read."""
        path = Path(self.path)
        if not path.is_file():
            raise DataError(f"{path} is gone; put the dump back, or run `reelmill curate` with its new place")
        try:
            return io.BufferedReader(_Range(path, self.offset, self.size), buffer_size=1 << 18)
        except PermissionError:
            raise DataError(f"{path} may not be read by this user; change its permissions") from None


class _Range(io.RawIOBase):
    """A window on a file; reads beyond its end return nothing."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._offset, self._size, self._position = offset, size, 0

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
        self._file.seek(self._offset + self._position)
        got = self._file.readinto(memoryview(buffer)[:wanted]) or 0
        self._position += got
        return got

    def close(self) -> None:
        self._file.close()
        super().close()
