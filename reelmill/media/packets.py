"""Packets of a video: as they come, or left out up to where frames are wanted again."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain, islice, pairwise
from typing import Any, TypeAlias, cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from reelmill.errors import Refused, brief
from reelmill.media.checksums import ClusterChecksums
from reelmill.media.clock import LONGEST_STEP_S
from reelmill.media.damage import Damage, heard

HEAD_PACKETS = 32
"""Packets that are read ahead, for the frame rate that their timestamps show."""
MOST_HELD = 256 * 1024**2
"""Bytes of packets that are held while frames are left out."""
REORDERED = 64
"""Packets after which a frame has surely left the decoder."""
JOINED = 2
"""The mark on a packet before a join comes up to so many packets early: the parser holds one back."""
SEEK_MARGIN_S = 1.0
"""An index has decoding times; a frame is shown by less than this later."""
HELD = 4
"""Frames that a decoder holds back, as a rule at most; where a packet shows more, that counts."""

VideoPacket: TypeAlias = "Packet[VideoStream]"


class Stamp:
    """A packet's place in time; what only has decoding times counts by those."""

    def __init__(self, packet: VideoPacket) -> None:
        self.pts = packet.dts if packet.pts is None else packet.pts
        self.duration = packet.duration or 0


class Packets:
    """Reads a container's packets of one video stream; what the demuxer complains of is noted in `damage`.

    `indexed`: every packet stands in an index, by which one may jump. Of the sound only `heard_s` is kept, how far it
    goes by the file's clock; not where the index knows the video's length.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        indexed: bool,
        damage: Damage,
        checksums: ClusterChecksums | None = None,
    ) -> None:
        self._container, self._stream, self._indexed = container, stream, indexed
        self._damage, self._checksums = damage, checksums
        self._tick_s = float(stream.time_base or 0)
        self.heard_s = -math.inf
        self._since_corrupt = JOINED + 1
        self._demuxed = self._demux()
        self._head = deque(islice(self._demuxed, HEAD_PACKETS))
        self._skip_to_s = -math.inf
        self._delay_s = 0.0  # the longest that a frame is shown after it is decoded

    @property
    def begins_with_key(self) -> bool:
        """Whether the first packet needs none before it."""
        return not self._head or self._head[0].is_keyframe

    def stamps(self) -> list[Stamp]:
        """The timestamps of the packets that were read ahead, up to where the file's clock goes back."""
        stamps: list[Stamp] = []
        before_s = -math.inf
        for packet in self._head:
            now_s = self._read_s(packet)
            if now_s < before_s or not packet.size:
                break
            stamps.append(Stamp(packet))
            before_s = now_s
        return stamps

    def usual_s(self) -> float | None:
        """The usual step between the frames that were read ahead, seconds; None where they say nothing."""
        pts = sorted(stamp.pts for stamp in self.stamps() if stamp.pts is not None)
        steps = [later - earlier for earlier, later in pairwise(pts) if later > earlier]
        return statistics.median(steps) * self._tick_s if len(steps) > 1 else None

    def skip_to(self, time_s: float) -> None:
        """Leave packets out, from the next one that is asked for on, up to the last key frame before `time_s`."""
        self._skip_to_s = time_s

    def read(
        self, has_begun: Callable[[], bool], offset_s: Callable[[], float], left: Callable[[], None]
    ) -> Iterator[VideoPacket]:
        """The packets, without those that `skip_to` leaves out.

        Nothing is left out before `has_begun`: the first frame says when time begins. `offset_s` is what the clock adds
        to the file's times now. `left` is called where packets were left out, before the next one is given. Where the
        file's clock steps on the way, everything from the key frame before the step is given.
        """
        packets = self._packets()
        before_s, since_step = math.nan, 0
        for packet in packets:
            now_s = self._read_s(packet)
            if packet.pts is not None and packet.dts is not None:
                self._delay_s = max(self._delay_s, (packet.pts - packet.dts) * self._tick_s)
            since_step = since_step + 1 if 0 <= now_s - before_s <= LONGEST_STEP_S else 0
            before_s = now_s
            is_settled = since_step > REORDERED or self._never_steps
            if self._skip_to_s == -math.inf or not is_settled or not has_begun():
                yield packet
                continue
            target_s, self._skip_to_s, before_s = self._skip_to_s - offset_s(), -math.inf, math.nan
            if not self._never_steps:
                found, has_left = self._read_on(chain([packet], packets), target_s)
                if has_left:
                    left()
                yield from found
            elif self._seek(now_s, target_s):
                left()
            else:
                yield packet

    def _packets(self) -> Iterator[VideoPacket]:
        while self._head:
            yield self._head.popleft()
        yield from self._demuxed

    def _demux(self) -> Iterator[VideoPacket]:
        sound = [] if self._indexed else list(self._container.streams.audio)
        packets = self._container.demux(self._stream, *sound)
        complaints: list[str] = []
        while True:
            with heard() as lines:
                packet = _next(packets)
            if packet is None:
                return
            complaints += lines
            if packet.stream.index == self._stream.index:  # a last, empty packet has no stream_index
                complaints += self._flagged(packet)
                self._damage.note(complaints, packet.dts if packet.pts is None else packet.pts)
                complaints = []
                yield cast("VideoPacket", packet)
            elif packet.pts is not None and packet.time_base:
                end = (packet.pts + (packet.duration or 0)) * float(packet.time_base)
                self.heard_s = max(self.heard_s, end)

    def _flagged(self, packet: Any) -> list[str]:
        """What flags and checksums say of a packet.

        A transport stream's packet is flagged where the counter of its pieces jumps, others' where the file ends within
        them. Shortly before a key frame is where two files were joined.
        """
        self._since_corrupt = 0 if packet.is_corrupt else self._since_corrupt + 1
        if packet.is_keyframe:
            self._since_corrupt = JOINED + 1
        is_sure = self._since_corrupt == JOINED if packet.size else self._since_corrupt <= JOINED
        found = ["a packet is marked as corrupt"] if is_sure else []
        if self._checksums is not None and packet.pos is not None and self._checksums.is_wrong(packet.pos):
            found.append("a cluster's checksum is wrong")
        return found

    def _read_on(self, packets: Iterator[VideoPacket], target_s: float) -> tuple[list[VideoPacket], bool]:
        """Read to `target_s` of the file's clock, or a step of it: (what is decoded, whether some is left out)."""
        held: list[VideoPacket] = []
        held_bytes, has_left, before_s = 0, False, math.nan
        for packet in packets:
            now_s = self._read_s(packet)
            pts_s = now_s if packet.pts is None else packet.pts * self._tick_s
            if packet.is_keyframe and pts_s <= target_s:
                held, held_bytes, has_left = [], 0, True
            held.append(packet)
            held_bytes += packet.size
            if now_s - before_s < 0 or now_s - before_s > LONGEST_STEP_S or math.isnan(now_s):
                break
            if now_s > target_s or held_bytes > MOST_HELD:
                break
            before_s = now_s
        return held, has_left

    def _seek(self, now_s: float, target_s: float) -> bool:
        """Jump to the last key frame before `target_s` by the index; False where that would be a jump back.

        How much later than it is decoded a frame is shown follows from how many the decoder holds back.
        """
        held_s = max(HELD * self._longest_step_s, self._delay_s)
        wanted = math.floor((target_s - min(held_s, SEEK_MARGIN_S)) / self._tick_s)
        place = self._stream.index_entries.search_timestamp(wanted)
        if place < 0 or self._stream.index_entries[place].timestamp * self._tick_s <= now_s:
            return False
        self._container.seek(wanted, stream=self._stream)
        self._head.clear()
        return True

    @cached_property
    def _never_steps(self) -> bool:
        """Whether an index of all packets shows that the file's clock makes no step and never stands still."""
        return 0 < self._longest_step_s <= LONGEST_STEP_S

    @cached_property
    def _longest_step_s(self) -> float:
        """The longest step between packets, by the index of all of them; 0 without one, or where one is none."""
        ticks = [entry.timestamp for entry in self._stream.index_entries] if self._indexed else []
        steps = [later - earlier for earlier, later in pairwise(ticks)]
        return max(steps) * self._tick_s if steps and min(steps) > 0 else 0.0

    def _read_s(self, packet: VideoPacket) -> float:
        """When a packet is decoded, by the file's clock; NaN where it does not say."""
        ticks = packet.pts if packet.dts is None else packet.dts
        return math.nan if ticks is None else ticks * self._tick_s


def _next(packets: Iterator[Packet[Any]]) -> Packet[Any] | None:
    """The next packet. Refused where the container is so damaged that no more can be found."""
    try:
        return next(packets, None)
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise Refused(f"corrupt: the container cannot be read on: {brief(error)}") from None
