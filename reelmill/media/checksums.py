"""Checksums that a Matroska file holds: CRC-32 of its clusters and of the other elements of its segment (RFC 8794)."""

from __future__ import annotations

import zlib
from collections import deque
from typing import BinaryIO

_SEGMENT = b"\x18\x53\x80\x67"
_CRC_32 = b"\xbf\x84"
"""A first child of four bytes: the checksum of all that follows it within its parent."""
_CHUNK = 1 << 20
_MOST_WRONG = 100
"""Of elements with a wrong checksum the last ones are remembered: packets are asked for in the file's order."""


class ClusterChecksums:
    """Says which places of a file lie in an element whose checksum is wrong; reads on as far as it is asked.

    Writers may leave checksums out, and sizes in files that were written live: then nothing is said.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._wrong: deque[tuple[int, int]] = deque(maxlen=_MOST_WRONG)
        self._at: int | None = None
        _, start, end = self._element(0)  # EBML's header
        kind, inside, _ = self._element(end) if start else (b"", 0, 0)
        if kind == _SEGMENT:
            self._at = inside

    def is_wrong(self, place: int) -> bool:
        """Whether the byte at `place` lies in an element whose checksum is wrong."""
        while self._at is not None and self._at <= place:
            begin = self._at
            _, start, end = self._element(begin)
            self._at = end or None
            if end and not self._agrees(start, end):
                self._wrong.append((begin, end))
        return any(begin <= place < end for begin, end in self._wrong)

    def _element(self, at: int) -> tuple[bytes, int, int]:
        """(identifier, where its content begins, where it ends); zeros where there is none, or its end is unknown."""
        self._stream.seek(at)
        head = self._stream.read(12)
        taken = 9 - head[0].bit_length() if head else 9
        if taken > 4 or len(head) < taken + 1 or not head[taken]:
            return b"", 0, 0
        kind, more = head[:taken], 9 - head[taken].bit_length()
        length = int.from_bytes(head[taken : taken + more], "big") & ((1 << 7 * more) - 1)
        start = at + taken + more
        if len(head) < taken + more:
            return b"", 0, 0
        return kind, start, 0 if length == (1 << 7 * more) - 1 else start + length

    def _agrees(self, start: int, end: int) -> bool:
        self._stream.seek(start)
        head = self._stream.read(6)
        if head[:2] != _CRC_32:
            return True
        left, found = end - start - 6, 0
        while left > 0 and (data := self._stream.read(min(left, _CHUNK))):
            found, left = zlib.crc32(data, found), left - len(data)
        return found == int.from_bytes(head[2:], "little")
