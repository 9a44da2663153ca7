"""How much an LZW stream unpacks to, without unpacking it: a changed code changes that, and nothing else.

The width of a code depends on how many codes came since the table was cleared (GIF89a, appendix F; TIFF 6.0, section
13), so a changed one puts no later one out of step. It only stands for a string of another length.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]

_MOST_BITS = 12
_TABLE = 1 << _MOST_BITS
_AT_ONCE = 4096
"""Codes that are read at a time: most streams clear their table sooner."""


def unpacked_size(data: bytes, bits: int, *, is_tiff: bool = False) -> tuple[int | None, bool]:
    """(bytes that a stream gives, None where a code stands for nothing; whether it has an end code, which some lack).

    `bits`: of a literal. A TIFF's codes lie most significant bit first, and widen one code early.
    """
    clear, total, at, count = 1 << bits, 0, 0, _AT_ONCE
    windows = _windows(data, is_tiff)
    while True:
        widths, steps = _widths(clear, count, is_tiff)
        taken = int(np.searchsorted(steps, len(data) * 8 - at, side="right"))
        width, ends = widths[:taken], steps[:taken] + at
        begin = ends - width
        behind = (24 - (begin & 7) - width) if is_tiff else begin & 7
        codes = (windows[begin >> 3] >> behind) & ((1 << width) - 1)
        marks = np.flatnonzero((codes == clear) | (codes == clear + 1))
        if not len(marks) and taken == count:
            count *= 8
            continue
        last = int(marks[0]) if len(marks) else taken
        size = _size(codes[:last], clear)
        if size is None:
            return None, False
        total += size
        if last == taken or codes[last] == clear + 1:
            return total, last < taken
        at = int(ends[last])


def _windows(data: bytes, is_msb_first: bool) -> Codes:
    """The 24 bits from each byte on, of which a code has at most 12, behind at most 7 others."""
    padded = np.concatenate([np.frombuffer(data, np.uint8), np.zeros(2, np.uint8)]).astype(np.int64)
    first, second, third = padded[:-2], padded[1:-1], padded[2:]
    windows: Codes = first << 16 | second << 8 | third if is_msb_first else first | second << 8 | third << 16
    return windows


@lru_cache(16)
def _widths(clear: int, count: int, is_early: bool) -> tuple[Codes, Codes]:
    """Bits of each code after a clear one, enough for every string that the table holds by then; and their sums."""
    last = np.minimum(clear + 1 + np.maximum(np.arange(count), 1) + is_early, _TABLE - 1)
    widths: Codes = np.floor(np.log2(last)).astype(np.int64) + 1
    return widths, np.cumsum(widths)


def _size(codes: Codes, clear: int) -> int | None:
    """Bytes of the strings of codes behind a clear one; None where one stands for nothing.

    Code number k > 0 enters the string of the one before it, and a byte more. So a string is one longer than that of
    the code that it was made of, which came earlier: the length is the number of steps back to a literal.
    """
    places = np.arange(len(codes))
    back = codes - (clear + 2)
    if np.any(back >= np.minimum(places, _TABLE - clear - 2)):
        return None
    origin = np.where(back < 0, places, back)
    length = (back >= 0).astype(np.int64)
    while np.any(more := length[origin]):
        length, origin = length + more, origin[origin]
    return int(length.sum()) + len(codes)
