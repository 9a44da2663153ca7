"""Containers: which demuxer reads a file, by its first bytes, and whether all of the file's bytes are there.

The demuxer is chosen out of an allow-list and forced, so that a playlist, a subtitle or a script renamed to .mp4 is
refused and nothing outside the given bytes is ever opened.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

from reelmill.errors import Refused

HEAD = 4096
"""Bytes of a file that the demuxer is chosen by."""
_TS_PACKETS = (188, 192, 204)
"""Sizes of a transport stream's packets: plain, with a time code before each (M2TS), with check bytes behind each."""
_TS_SYNC = 0x47
_TS_SYNCS = 4
"""As many packets in a row make a transport stream."""
_BOXES = b"ftyp styp moov moof mdat sidx free skip wide uuid pnot junk pict prfl udta meta emsg mfra".split()
"""Boxes at the top of files of the MP4 and QuickTime family; any of them may be the first."""
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (8, b"AVI ", "avi"),
    (0, b"FLV", "flv"),
    (0, b"OggS", "ogg"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (0, b"\x06\x0e+4\x02\x05\x01\x01\x0d\x01\x02", "mxf"),
    (0, b"\xb7\xd8\x00 7I\xda\x11\xa6N\x00\x07\xe9^\xad\x8d", "wtv"),
    (0, b"\x00\x00\x00\x00\x01\xbc", "gxf"),
    (0, b"nut/multimedia container\x00", "nut"),
    (0, b".RMF", "rm"),
    (0, b"DKIF", "ivf"),
    (0, b"\x12\x00\x0a", "obu"),
    (0, b"YUV4MPEG2 ", "yuv4mpegpipe"),
    (0, b"\x1f\x07\x00", "dv"),
    (0, b"\x00\x00\x01\xba", "mpeg"),
    (0, b"\x00\x00\x01\xb3", "mpegvideo"),
    (0, b"\x00\x00\x01\xb0", "m4v"),
)
_READ = (
    "mp4/mov, mkv/webm, avi, flv, ogg, asf/wmv, mpeg, ts/m2ts, mxf, wtv, gxf, nut, rm, ivf, y4m, dv, and elementary "
    "streams of MPEG-1, 2 and 4, H.264, HEVC and AV1"
)


def demuxer(stream: BinaryIO) -> str:
    """FFmpeg's name of the demuxer for a file, by its first bytes. Raises Refused for what is no container."""
    stream.seek(0)
    head = stream.read(HEAD)
    stream.seek(0)
    name = demuxer_of(head)
    if name is None:
        raise Refused(f"not_a_video: the first bytes {head[:12]!r} belong to no container that is read ({_READ})")
    return name


def is_video(head: bytes) -> bool:
    """Whether the first bytes of a file, HEAD at most, are a video container's."""
    return demuxer_of(head) is not None


def demuxer_of(head: bytes) -> str | None:
    """FFmpeg's name of the demuxer for a file with these first bytes, HEAD at most; None for what is no container."""
    if head[4:8] in _BOXES and not _is_avif(head):
        return "mov"
    for offset, magic, name in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return name
    if _ts_packet(head):
        return "mpegts"
    return _elementary(head)


def _is_avif(head: bytes) -> bool:
    """A picture in the same boxes: AVIF or HEIF by its major brand."""
    return head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")


def _ts_packet(head: bytes) -> int:
    """The size of a transport stream's packets; 0 for another file. It may begin inside of a packet."""
    for size in _TS_PACKETS:
        for start in range(min(size, len(head))):
            syncs = head[start::size]
            if len(syncs) >= _TS_SYNCS and set(syncs) == {_TS_SYNC}:
                return size
    return 0


def _elementary(head: bytes) -> str | None:
    """H.264 or HEVC by its first units (ITU-T H.264 and H.265, annex B), or MPEG-4 by its first start codes."""
    if not head.startswith((b"\x00\x00\x01", b"\x00\x00\x00\x01")):
        return None
    unit = head[head.index(b"\x01") + 1 :]
    if len(unit) < 2:
        return None
    kind, hevc_kind = unit[0] & 0x1F, unit[0] >> 1 & 0x3F
    if unit[0] <= 0x1F and b"\x00\x00\x01\x20" in head[:64]:  # a video object, then its layer
        return "m4v"
    if unit[1] == 1 and hevc_kind in (32, 33, 34, 35):  # parameter sets or a delimiter, first temporal layer
        return "hevc"
    if unit[0] & 0x80 == 0 and kind in (7, 9):  # sequence parameters or a delimiter
        return "h264"
    return None


@dataclass(frozen=True)
class Ending:
    """What a container's own sizes say of a file's end: bytes that are `missing`, and whether it is `whole` for sure.

    `indexed`: every frame stands in one index at a known place (MP4 without fragments).
    """

    missing: int = 0
    whole: bool = False
    indexed: bool = False


def ending(stream: BinaryIO, size: int, name: str) -> Ending:
    """Read the sizes that a container of demuxer `name` declares; the stream's position is put back."""
    reader = _ENDINGS.get(name)
    if reader is None:
        return Ending()
    place = stream.tell()
    try:
        found = reader(stream, size)
        stream.seek(max(size - _BLANK, 0))
        # Room that was taken before a download, which then broke off.
        return found if any(stream.read(_BLANK)) else replace(found, whole=False)
    except (struct.error, IndexError, ValueError):  # sizes that cannot be read vouch for nothing
        return Ending()
    finally:
        stream.seek(place)


_BLANK = 64
"""So many zero bytes at the end vouch for nothing."""
_MOST_BOXES = 1_000_000


def _mov(stream: BinaryIO, size: int) -> Ending:
    """Boxes one after another (ISO/IEC 14496-12, 4.2): the last one must end where the file ends, or before."""
    at = 0
    kinds = set()
    for _ in range(_MOST_BOXES):
        if at + 8 > size:
            break
        stream.seek(at)
        length, kind = struct.unpack(">I4s", stream.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", stream.read(8))
        if length == 0 and kind in _BOXES:  # to the end of the file, wherever that is
            return Ending()
        if length < 8:
            break
        kinds.add(kind)
        at += length
        if at > size:
            return Ending(missing=at - size) if kind in _BOXES else Ending()
    known = b"moov" in kinds and b"moof" not in kinds
    return Ending(whole=known, indexed=known)


def _matroska(stream: BinaryIO, size: int) -> Ending:
    """EBML's header, then one segment that says its size (RFC 8794, 9559), unless it was written live."""
    head = stream_head(stream, 64 * 1024)
    at = 4
    length, taken = _vint(head, at)
    at += taken + length
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return Ending()
    length, taken = _vint(head, at + 4)
    if length == (1 << 7 * taken) - 1:
        return Ending()
    end = at + 4 + taken + length
    return Ending(missing=max(end - size, 0), whole=end <= size)


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """(value, bytes taken) of an EBML number."""
    taken = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + taken], "big") & ((1 << 7 * taken) - 1)
    return value, taken


_RIFF_SLACK = 8
"""Some writers count a chunk's own header in."""


def _avi(stream: BinaryIO, size: int) -> Ending:
    """RIFF chunks (OpenDML: several); a length of 0 is a file that was never closed."""
    at = 0
    while at + 12 <= size:
        stream.seek(at)
        kind, length = struct.unpack("<4sI", stream.read(8))
        if kind != b"RIFF":
            break
        if length == 0:
            return Ending()
        at += 8 + length + length % 2
    return Ending(missing=at - size) if at > size + _RIFF_SLACK else Ending(whole=True)


_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def _asf(stream: BinaryIO, size: int) -> Ending:
    """The file's size stands in its properties (ASF specification, 3.2), unless it is a broadcast."""
    head = stream_head(stream, 64 * 1024)
    at = head.index(_ASF_FILE) if _ASF_FILE in head else -1
    if at < 0:
        return Ending()
    (declared,) = struct.unpack_from("<Q", head, at + 40)
    (flags,) = struct.unpack_from("<I", head, at + 88)
    if flags & 1 or not declared:
        return Ending()
    return Ending(missing=max(declared - size, 0), whole=declared <= size)


_FLV_SIZE = b"\0\x08filesize\0"
"""An entry of AMF's: the length of its name, the name, a number (which follows)."""


def _flv(stream: BinaryIO, size: int) -> Ending:
    """Each tag is followed by its length: the last one must match (FLV specification, annex E.3).

    Where the file was cut between two tags only its size tells, which most writers put into `onMetaData`.
    """
    head = stream_head(stream, 64 * 1024)
    if (at := head.find(_FLV_SIZE)) >= 0:
        (declared,) = struct.unpack_from(">d", head, at + len(_FLV_SIZE))
        if size < declared < math.inf:
            return Ending(missing=round(declared) - size)
    stream.seek(max(size - 4, 0))
    (length,) = struct.unpack(">I", stream.read(4))
    at = size - 4 - length
    if length >= 11 and at >= 9:
        stream.seek(at)
        kind, *data = struct.unpack(">4B", stream.read(4))
        if kind in (8, 9, 18) and int.from_bytes(bytes(data), "big") == length - 11:
            return Ending()
    return Ending(missing=1)


_OGG_LAST = 4


def _ogg(stream: BinaryIO, size: int) -> Ending:
    """The last page must be complete and end its stream (RFC 3533, section 6)."""
    tail = 70_000  # a page is at most 65,307 bytes
    stream.seek(max(size - tail, 0))
    data = stream.read(tail)
    at = data.rindex(b"OggS")
    flags, segments = data[at + 5], data[at + 26]
    end = at + 27 + segments + sum(data[at + 27 : at + 27 + segments])
    if end > len(data):
        return Ending(missing=end - len(data))
    return Ending(whole=bool(flags & _OGG_LAST))


def stream_head(stream: BinaryIO, length: int) -> bytes:
    """The first bytes of a file."""
    stream.seek(0)
    return stream.read(length)


_ENDINGS: dict[str, Callable[[BinaryIO, int], Ending]] = {
    "mov": _mov,
    "matroska": _matroska,
    "avi": _avi,
    "asf": _asf,
    "flv": _flv,
    "ogg": _ogg,
}
