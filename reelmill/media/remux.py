"""Clips cut out of a video without decoding it: packets copied from the key frame before the clip on, into a new file.

The job runs in the untrusted child. A clip so begins up to one group of pictures before its span; where the span lies
in it is said beside it. Each clip is opened again and its first frame compared with the source's, so that orientation,
shape and clock are those of the source; where anything differs, the caller keeps the whole file.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from reelmill.errors import Refused, brief
from reelmill.isolation import wire
from reelmill.media.clock import LONGEST_STEP_S
from reelmill.media.containers import demuxer
from reelmill.media.limits import Limits
from reelmill.media.moving import Decoded, Renderer
from reelmill.media.opening import open_moving
from reelmill.media.shown import Shown
from reelmill.media.source import Source
from reelmill.media.streams import choose
from reelmill.media.video import Video

REMUX_JOB = "reelmill.media.remux:remux_clips"
MP4_CODECS = ("h264", "hevc", "av1", "mpeg4")
"""Codecs of a clip in MP4; others are in Matroska."""
MOST_BYTES = 1000 * 1024**2
"""Bytes of one clip, at most."""
SAME_S = 1e-6
"""Times that differ by less are equal: those of samples are rounded."""


class _NotCut(Exception):
    """Why a clip cannot be cut out so."""


@dataclass
class _Group:
    """A group of pictures: packets from a key frame to the next, and when each is shown and for how long, in ticks."""

    packets: list[Packet[VideoStream]] = field(default_factory=list)
    pts: list[int] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    size: int = 0


def remux_clips(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """One message a clip of `options["clips"]`, in the order of their starts; a clip is `{"key", "start_s", "end_s"}`.

    `remuxed` with the new file's `bytes`, uint8 [N], its `suffix` and the span in it, seconds from its first frame; or
    `not_remuxed`, with the `problem`, where it cannot be cut out.
    """
    clips = sorted(options["clips"], key=lambda clip: clip["start_s"])
    done = 0
    try:
        for body, arrays in _cut(source, clips, Limits.of(options)):
            done += body["type"] == "remuxed"
            yield body, arrays
    except (_NotCut, Refused, av.error.FFmpegError, ValueError) as error:
        for clip in clips[done:]:
            yield {"type": "not_remuxed", "key": clip["key"], "problem": brief(error, 300)}, {}


def _cut(source: Source, clips: Sequence[dict[str, Any]], limits: Limits) -> Iterator[wire.Message]:
    moving = open_moving(source, limits)
    try:
        if not isinstance(moving, Video):
            raise _NotCut("an animation is kept whole")
        shown = Shown(moving)
        with source.open() as stream:
            container = av.open(stream, mode="r", format=demuxer(stream), metadata_errors="replace")
            with container:
                yield from _cut_from(container, shown, clips, limits)
    finally:
        moving.close()


def _cut_from(
    container: InputContainer, shown: Shown, clips: Sequence[dict[str, Any]], limits: Limits
) -> Iterator[wire.Message]:
    template, _ = choose(container)
    tick = template.time_base
    if tick is None:
        raise _NotCut("its timestamps have no unit")
    groups = _groups(container, template, tick)
    held: list[_Group] = []
    zero: int | None = None
    for clip in clips:
        while not held or (held[-1].pts[0] - (zero or 0)) * tick <= clip["end_s"]:
            group = next(groups, None)
            if group is None:
                break
            zero = min(group.pts) if zero is None else zero
            held.append(group)
            _drop(held, zero + Fraction(clip["start_s"] + SAME_S) / tick)
            yield {"type": "tick"}, {}
        if zero is None:
            raise _NotCut("it has no key frame")
        _drop(held, zero + Fraction(clip["start_s"] + SAME_S) / tick)
        begin_s = float((held[0].pts[0] - zero) * tick)
        if begin_s > clip["start_s"] + SAME_S:
            raise _NotCut("the clip begins before the first key frame")
        suffix = "mp4" if template.codec_context.name in MP4_CODECS else "mkv"
        data = _muxed(held, zero + Fraction(clip["end_s"]) / tick, template, tick, suffix)
        _check(data, shown.at(begin_s), begin_s, limits)
        span = {"start_s": clip["start_s"] - begin_s, "end_s": clip["end_s"] - begin_s}
        yield (
            {"type": "remuxed", "key": clip["key"], "suffix": suffix, **span},
            {"bytes": np.frombuffer(data, np.uint8)},
        )


def _drop(groups: list[_Group], start: Fraction) -> None:
    """Forget the groups that end before `start`, ticks."""
    while len(groups) > 1 and groups[1].pts[0] <= start:
        groups.pop(0)


def _groups(container: InputContainer, stream: VideoStream, tick: Fraction) -> Iterator[_Group]:
    """The video's groups of pictures. Raises _NotCut where its clock makes a step."""
    group = _Group()
    last: int | None = None
    for packet in container.demux(stream):
        if not packet.size or not (packet.is_keyframe or group.packets):
            continue
        if packet.pts is None:
            raise _NotCut("packets do not say when they are shown")
        if packet.is_keyframe and group.packets:
            last = _last_shown(group, last, tick)
            yield group
            group = _Group()
        group.packets.append(packet)
        group.pts.append(packet.pts)
        group.durations.append(packet.duration or 0)
        group.size += packet.size
        if group.size > MOST_BYTES:
            raise _NotCut(f"a group of pictures has over {MOST_BYTES >> 20} MiB")
    if group.packets:
        _last_shown(group, last, tick)
        yield group


def _last_shown(group: _Group, before: int | None, tick: Fraction) -> int:
    """When the group's last frame is shown; `before`: the one before the group. Raises _NotCut for a step."""
    shown = [*([] if before is None else [before]), *sorted(group.pts)]
    if not all(0 < (later - earlier) * tick <= LONGEST_STEP_S for earlier, later in pairwise(shown)):
        raise _NotCut("its clock makes a step")
    return shown[-1]


def _muxed(groups: Sequence[_Group], stop: Fraction, template: VideoStream, tick: Fraction, suffix: str) -> bytes:
    """A file of the frames from the first key frame to `stop`, and of those after it that they need.

    Pictures that are shown before the key frame need frames before it, and are left out.
    """
    begin = groups[0].pts[0]
    packets = [
        (packet, pts - begin, duration)
        for group in groups
        for packet, pts, duration in zip(group.packets, group.pts, group.durations, strict=True)
        if pts >= begin
    ]
    while packets and packets[-1][1] + begin >= stop:
        packets.pop()
    # Decoding times in the order of the packets, as late as showing allows: not every container has them.
    in_order = sorted(pts for _, pts, _ in packets)
    late = max(wanted - pts for wanted, (_, pts, _) in zip(in_order, packets, strict=True))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format={"mp4": "mp4", "mkv": "matroska"}[suffix]) as out:
        stream = out.add_stream_from_template(template, opaque=True)
        for wanted, (packet, pts, duration) in zip(in_order, packets, strict=True):
            packet.stream, packet.time_base = stream, tick
            packet.pts, packet.dts, packet.duration = pts, wanted - late, duration
            out.mux(packet)
            if buffer.tell() > MOST_BYTES:
                raise _NotCut(f"the clip has over {MOST_BYTES >> 20} MiB")
    return buffer.getvalue()


@dataclass(frozen=True)
class _InMemory(Source):
    """A file that is no file."""

    data: bytes = b""

    def open(self) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self.data))


def _check(data: bytes, wanted: Decoded, begin_s: float, limits: Limits) -> None:
    """Raise _NotCut unless the file's first frame is the source's at `begin_s`, shown alike."""
    if abs(wanted.time_s - begin_s) > 1000 * SAME_S:
        raise _NotCut("its clock makes a step")
    video = Video(_InMemory("", 0, len(data), data), limits)
    try:
        found = next(video.frames(), None)
        if found is None or found.look != wanted.look:
            raise _NotCut("the clip's frames are not shown as the source's")
        one, other = (Renderer().upright(decoded, 64, 64, "area") for decoded in (found, wanted))
        if not np.array_equal(one, other):
            raise _NotCut("the clip's first frame is not the source's")
    finally:
        video.close()
