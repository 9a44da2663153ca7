"""Whether a picture ends where its bytes do. A decoder that lost its place ends too soon, or wants more.

Formats without checksums say nothing else of damage: WebP, AVIF, GIF, TIFF with LZW. A TIFF with deflate has checksums,
which its readers leave out.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO

import av
from PIL import Image, TiffImagePlugin

from reelmill.media.damage import heard
from reelmill.media.deep import DEMUXERS
from reelmill.media.lzw import unpacked_size

SPARE = {b"VP8 ": 16, b"VP8L": 2}
"""Bytes at the end of a WebP's data that its decoder may not need: encoders end in a few zeros."""
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_OFFSETS, _COUNTS, _ROWS = 273, 279, 278
_COMPRESSION, _FILL_ORDER, _PLANAR, _BITS, _PHOTOMETRIC = 259, 266, 284, 258, 262
_LZW, _DEFLATE, _YCBCR = 5, (8, 32946), 6
"""TIFF 6.0, sections 8, 13 and 15; Adobe's technical notes for deflate."""


def webp(stream: BinaryIO, size: tuple[int, int]) -> list[str]:
    """Whether a picture of this size is whole before its data ends (RFC 9649, section 2); nothing of animations.

    The data is decoded without its last bytes: what is sound lacks them then.
    """
    data = stream.read()
    at = 12
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind in SPARE:
            left = (length - SPARE[kind]) // 2 * 2  # libwebp would take the byte that fills up to even for data
            shorter = _riff(kind, data[at + 8 : at + 8 + left])
            return ["webp: the picture is whole before its data ends"] if _is_whole(shorter, size) else []
        at += 8 + length + length % 2
    return []


def _is_whole(data: bytes, size: tuple[int, int]) -> bool:
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP",)) as picture:
            if picture.size == size:
                picture.load()
            return picture.size == size
    except (OSError, ValueError, SyntaxError, EOFError):
        return False


def _riff(kind: bytes, data: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def avif(stream: BinaryIO) -> list[str]:
    """What dav1d says when it is strict: the symbols of a tile must end with its bytes (AV1, section 8.2.4).

    Nothing where FFmpeg does not read the file at all, though Pillow does.
    """
    found = _decoded(stream, "strict")
    return found if found and not _decoded(stream, "normal") else []


def _decoded(stream: BinaryIO, compliance: str) -> list[str]:
    stream.seek(0)
    try:
        with heard() as complaints, av.open(stream, mode="r", format=DEMUXERS["AVIF"]) as container:
            for video in container.streams.video:
                video.codec_context.options = {"strict": compliance}
                video.codec_context.thread_count = 1
            for packet in container.demux(*container.streams.video):
                packet.decode()
    except av.error.MemoryError:
        raise
    except (av.error.FFmpegError, ValueError) as error:
        complaints.append(f"avif: {type(error).__name__}")
    return complaints


def gif(stream: BinaryIO) -> list[str]:
    """Whether the codes of the first picture stand for as many pixels as it has (GIF89a, section 22)."""
    data = stream.read()
    at = 13 + (3 << (data[10] % 8 + 1) if data[10] & 0x80 else 0)
    while data[at : at + 1] == b"!":  # extensions
        _, at = _sub_blocks(data, at + 2)
    if data[at : at + 1] != b"," or len(data) < at + 11:
        return []
    width, height, flags = struct.unpack_from("<HHB", data, at + 5)
    at += 10 + (3 << (flags % 8 + 1) if flags & 0x80 else 0)
    if not 2 <= data[at] <= 8:
        return []
    size, has_end = unpacked_size(_sub_blocks(data, at + 1)[0], data[at])
    return [] if _fits(size, has_end, {width * height}) else [f"gif: codes of {size} pixels for {width * height}"]


def _fits(size: int | None, has_end: bool, wanted: set[int]) -> bool:
    """Whether data unpacks to what is wanted; what lies behind it where a writer left the end out does not count."""
    return size in wanted or (size is not None and not has_end and size > min(wanted))


def _sub_blocks(data: bytes, at: int) -> tuple[bytes, int]:
    """(the bytes in blocks that each begin with their size, where the next thing begins)."""
    found = bytearray()
    while at < len(data) and data[at]:
        found += data[at + 1 : at + 1 + data[at]]
        at += data[at] + 1
    return bytes(found), at + 1


def tiff(stream: BinaryIO, file: TiffImagePlugin.TiffImageFile) -> list[str]:
    """Whether each strip or tile unpacks to its size, with the right checksum where it has one."""
    tags = file.tag_v2
    kind, bits = tags.get(_COMPRESSION), tags.get(_BITS, (1,))
    is_plain = tags.get(_FILL_ORDER, 1) == 1 and tags.get(_PHOTOMETRIC) != _YCBCR
    if not is_plain or not (kind == _LZW or kind in _DEFLATE):
        return []
    a_pixel = sum(bits) if tags.get(_PLANAR, 1) == 1 else bits[0]
    width, height = file.size
    if _TILE_OFFSETS in tags:
        offsets, counts = tags[_TILE_OFFSETS], tags.get(_TILE_COUNTS, ())
        sizes = {tags.get(_TILE_LENGTH, 0) * -(-tags.get(_TILE_WIDTH, 0) * a_pixel // 8)}
    else:
        offsets, counts, rows = tags.get(_OFFSETS, ()), tags.get(_COUNTS, ()), min(tags.get(_ROWS, height), height)
        sizes = {of * -(-width * a_pixel // 8) for of in (rows, height % rows or rows)}
    found = []
    for offset, count in zip(offsets, counts, strict=False):
        stream.seek(offset)
        data = stream.read(count)
        if kind == _LZW and data[:1] == b"\0" and data[1:2] > b"\0" and data[1] & 1:
            return []  # least significant bit first, as before TIFF 6.0
        size, has_end = unpacked_size(data, 8, is_tiff=True) if kind == _LZW else (_inflated(data, max(sizes)), True)
        if not _fits(size, has_end, sizes):
            found.append(f"tiff: {count} bytes unpack to {size}")
    return found


def _inflated(data: bytes, most: int) -> int | None:
    """Bytes that deflated data gives; None where its checksum is wrong or it does not end (RFC 1950)."""
    unpacking = zlib.decompressobj()
    try:
        size = len(unpacking.decompress(data, most + 1))
    except zlib.error:
        return None
    return size if unpacking.eof else None
