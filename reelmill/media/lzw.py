"""How much an LZW stream unpacks to, without unpacking it: a changed code changes that, and nothing else.

The width of a code depends on how many codes came since the table was cleared (GIF89a, appendix F; TIFF 6.0, section
13), so a changed one puts no later one out of step. It only stands for a string of another length.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]

_MOST_BITS = 12
_TABLE = 1 << _MOST_BITS
_AT_ONCE = 8192
"""Codes that are read at a time: most streams clear their table sooner."""


def unpacked_size(data: bytes, bits: int, *, is_tiff: bool = False) -> tuple[int | None, bool]:
    """(bytes that a stream gives, None where a code stands for nothing; whether it has an end code, which some lack).

    `bits`: of a literal. A TIFF's codes lie most significant bit first, and widen one code early.
    """
    clear, total, at, count = 1 << bits, 0, 0, _AT_ONCE
    padded = np.concatenate([np.frombuffer(data, np.uint8), np.zeros(4, np.uint8)]).astype(np.int64)
    while True:
        widths = _widths(clear, count, is_tiff)
        ends = at + np.cumsum(widths)
        ends = ends[: np.searchsorted(ends, len(data) * 8, side="right")]
        codes = _codes(padded, ends, widths[: len(ends)], is_tiff)
        marks = np.flatnonzero((codes == clear) | (codes == clear + 1))
        if not len(marks):
            if len(ends) == count:
                count *= 8
                continue
            marks = np.array([len(codes)])
        size = _size(codes[: marks[0]], clear)
        if size is None:
            return None, False
        total += size
        if marks[0] == len(codes) or codes[marks[0]] == clear + 1:
            return total, bool(marks[0] < len(codes))
        at = int(ends[marks[0]])


def _widths(clear: int, count: int, is_early: bool) -> Codes:
    """Bits of each code after a clear one: enough for every string that the table holds by then."""
    last = np.minimum(clear + 1 + np.maximum(np.arange(count), 1) + is_early, _TABLE - 1)
    widths: Codes = np.floor(np.log2(last)).astype(np.int64) + 1
    return widths


def _codes(padded: Codes, ends: Codes, width: Codes, is_msb_first: bool) -> Codes:
    """The codes that end at these bits, and have these widths."""
    begin = ends - width
    byte, inside = begin >> 3, begin & 7
    first, second, third = (padded[byte + k] for k in range(3))
    if is_msb_first:
        codes = ((first << 16) | (second << 8) | third) >> (24 - inside - width)
    else:
        codes = (first | (second << 8) | (third << 16)) >> inside
    taken: Codes = codes & ((1 << width) - 1)
    return taken


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
    while np.any(length[origin]):
        length, origin = length + length[origin], origin[origin]
    return int(length.sum()) + len(codes)
