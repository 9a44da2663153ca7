"""What a picture's file says of its values in words that Pillow does not pass on: code points, gamma, bits."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

HEAD = 64 * 1024
UNSAID = 0


@dataclass(frozen=True)
class Coding:
    """Code points of ITU-T H.273 (0: not said), PNG's gamma, bits a value."""

    transfer: int = UNSAID
    primaries: int = UNSAID
    range: int = UNSAID
    gamma: float | None = None
    bit_depth: int | None = None
    outweighs_profile: bool = False
    """PNG's code points count before an ICC profile, AVIF's behind it."""


def coding_of(stream: BinaryIO) -> Coding:
    """Read the head of a file; the stream is put back to its start."""
    head = stream.read(HEAD)
    stream.seek(0)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(head)
    if head[4:8] == b"ftyp":
        return _avif(head)
    return Coding()


def _png(head: bytes) -> Coding:
    """Chunks before the pixels: cICP counts, else sRGB makes the gamma void (PNG third edition, section 4.3)."""
    transfer = primaries = full = UNSAID
    gamma, is_srgb = None, False
    at = 8
    depth = head[24] if len(head) > 24 else None
    while at + 8 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, at)
        data = head[at + 8 : at + 8 + length]
        if kind == b"cICP" and len(data) == 4:
            primaries, transfer, full = data[0], data[1], 2 if data[3] else 1
        elif kind == b"gAMA" and len(data) == 4:
            gamma = int.from_bytes(data, "big") / 100_000
        elif kind == b"sRGB":
            is_srgb = True
        elif kind in (b"IDAT", b"IEND"):
            break
        at += length + 12
    return Coding(transfer, primaries, full, None if is_srgb else gamma, depth, outweighs_profile=bool(transfer))


def _avif(head: bytes) -> Coding:
    """The boxes `colr` of type nclx and `pixi` (ISO/IEC 14496-12, 12.1.5; 23008-12, 6.5.6), wherever they lie."""
    transfer = primaries = full = UNSAID
    at = head.find(b"colrnclx")
    if 0 <= at <= len(head) - 15:
        primaries, transfer = struct.unpack_from(">HH", head, at + 8)
        full = 2 if head[at + 14] & 0x80 else 1
    at = head.find(b"pixi")
    depth = head[at + 9] if 0 <= at <= len(head) - 10 else None
    return Coding(transfer, primaries, full, bit_depth=depth)
