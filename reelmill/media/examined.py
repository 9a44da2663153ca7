"""What the packets of a codec say of damage that its decoder passes over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import av
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext

from reelmill.media.damage import heard
from reelmill.media.picture_ends import SPARE

if TYPE_CHECKING:
    from reelmill.media.packets import VideoPacket

Examiner = Callable[["VideoPacket"], list[str]]
"""What is wrong with a packet; packets are given in the order of the file."""

_BETWEEN_UNITS = (b"\0\0\0", b"\0\0\1", b"\0\0\2")
_PICTURE, _GROUP, _B = b"\0\0\1\0", b"\0\0\1\xb8", 3
"""Start codes of a picture and of a group, and a kind of picture (ISO/IEC 13818-2, 6.2.1 and 6.3.9)."""


def vp8() -> Examiner:
    """Whether a key frame ends where its packet does: nothing in VP8 is redundant, and its decoders never ask.

    libvpx refuses a first frame that needs more bytes than there are. What is sound needs all but the last few.
    """

    def examine(packet: VideoPacket) -> list[str]:
        data = bytes(packet) if packet.is_keyframe else b""
        if len(data) <= SPARE[b"VP8 "]:
            return []
        if not _decodes(data):
            return ["vp8: a key frame goes on behind its packet"]
        is_early = _decodes(data[: -SPARE[b"VP8 "]])
        return ["vp8: a key frame ends before its packet"] if is_early else []

    return examine


def _decodes(data: bytes) -> bool:
    decoder = CodecContext.create("libvpx", "r")
    decoder.thread_count = 1
    try:
        with heard():
            return bool(decoder.decode(Packet(data)))
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError:
        return False


def mpeg() -> Examiner:
    """Whether the pictures of a group are numbered without a gap (ISO/IEC 13818-2, 6.3.9: temporal_reference).

    Those that are shown before the first picture of a group may be left out, where a file was cut.
    """
    numbers: list[int] = []  # of this group, as they come
    anchor = 0  # the last one that is no B picture: all before it have come when the next such one does

    def examine(packet: VideoPacket) -> list[str]:
        nonlocal anchor
        data = bytes(packet)
        at = data.find(_PICTURE)
        if at < 0 or len(data) < at + 6:
            return []
        number, is_b = data[at + 4] << 2 | data[at + 5] >> 6, data[at + 5] >> 3 & 7 == _B
        begins = 0 <= data.find(_GROUP) < at
        if is_b or (numbers and number == numbers[-1]):  # the two fields of a picture share their number
            numbers.append(number)
            return []
        lacking = {*range(numbers[0], max(numbers) if begins else anchor)}.difference(numbers) if numbers else set()
        is_known = not begins and number in numbers
        if begins or is_known:
            numbers.clear()
        numbers.extend([number] if begins else [number, *lacking])
        anchor = number
        return ["mpeg: pictures of a group are missing"] if lacking or is_known else []

    return examine


def nal_units(length_bytes: int) -> Examiner:
    """Whether no unit of H.264 or HEVC holds what only stands between units (ITU-T H.264, 7.4.1; H.265, 7.4.2.2).

    Writers break up two zeros before a byte under four; decoders take a hole of zeros for data. `length_bytes`:
    of the length before each unit.
    """

    def examine(packet: VideoPacket) -> list[str]:
        data, at = bytes(packet), 0
        while at + length_bytes < len(data):
            begin = at + length_bytes
            at = begin + int.from_bytes(data[at:begin], "big")
            unit = data[begin:at].rstrip(b"\0")
            if any(forbidden in unit for forbidden in _BETWEEN_UNITS):
                return ["a unit holds zeros that no writer leaves in one"]
        return []

    return examine


_EXAMINERS = {"vp8": vp8, "mpeg1video": mpeg, "mpeg2video": mpeg}
_LENGTH_AT = {"h264": 4, "hevc": 21}
"""Where the header of a stream without start codes says how long lengths are (ISO/IEC 14496-15, 5.3 and 8.3)."""


def examiner(context: VideoCodecContext) -> Examiner:
    """What examines the packets of one stream, whose own decoder this is."""
    header, place = context.extradata or b"", _LENGTH_AT.get(context.name)
    if place is not None and header[:1] == b"\1" and len(header) > place:
        return nal_units((header[place] & 3) + 1)
    return _EXAMINERS[context.name]() if context.name in _EXAMINERS else lambda packet: []
