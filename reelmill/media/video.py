"""Videos, decoded with PyAV inside the untrusted child: one sequential pass, upright frames, one clock."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import av
import av.subtitles.stream  # once, not by each worker of the child for itself
import numpy as np
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from reelmill.errors import Refused
from reelmill.media.checksums import ClusterChecksums
from reelmill.media.clock import Clock, measured_rate
from reelmill.media.colour import PRIMARIES, RANGES, TRANSFERS, conversion, over_white
from reelmill.media.containers import demuxer, ending
from reelmill.media.damage import Damage, Pace, heard
from reelmill.media.deinterlace import Deinterlacer
from reelmill.media.examined import examiner
from reelmill.media.geometry import UPRIGHT, Orientation, displayed
from reelmill.media.limits import Limits
from reelmill.media.moving import Decoded, Facts, Look, Moving
from reelmill.media.packets import Packets, VideoPacket
from reelmill.media.side_data import display_matrix
from reelmill.media.source import Source
from reelmill.media.streams import choose, duration_s

MAX_ERROR_SHARE = 0.05
"""A file in which more than this share of the packets fails to decode is refused."""
RATE_DIFFERS = 0.1
"""A declared rate that differs by more than this share from the timestamps' is not the rate."""
UNCOUNTED = 2
"""Frames that an AVI's header may count too many: decoders that give frames in another order hold some back."""
UNTOLD = ("h264", "hevc", "obu")
"""Elementary streams for which FFmpeg declares a rate of its own."""
MOST_GREY = 600
"""Frames that are left out at most before the first key frame: a file that never shows one is taken as it is."""
_LIBVPX = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders leave the alpha of WebM out, and do not ask whether a frame ends where its packet does."""


class Video(Moving):
    """An opened video: facts, then `frames()`, once. Sizes are as displayed. Raises Refused."""

    def __init__(self, source: Source, limits: Limits) -> None:
        limits.check_video_bytes(source.size)
        self._limits = limits
        self._file = source.open()
        name = demuxer(self._file)
        self._ending = ending(self._file, source.size, name)
        if self._ending.missing:
            raise Refused(f"truncated: {source.size} bytes of at least {source.size + self._ending.missing}")
        self._damage = Damage()
        try:
            with heard() as complaints:
                self._container = av.open(self._file, mode="r", format=name, metadata_errors="replace")
        except (av.error.FFmpegError, ValueError) as error:
            raise Refused(f"cannot_open: {_words(error)}") from None
        self.metadata = dict(self._container.metadata)
        own = f"{self._container.format.name}: "  # what decoders say of the packets read ahead they will say again
        self._damage.note([words for words in complaints if words.startswith(own)], None)
        self._stream, streams = choose(self._container)
        self._decoder = _decoder(self._stream)
        context = self._stream.codec_context
        limits.check_frame(context.width, context.height, context.format.bits_per_pixel if context.format else 12)
        if not self._stream.time_base:
            raise Refused("no_clock: the video's timestamps have no unit")
        self._tick = self._stream.time_base
        self._summed = source.open() if name == "matroska" else None
        checksums = ClusterChecksums(self._summed) if self._summed else None
        self._packets = Packets(self._container, self._stream, self._ending.indexed, self._damage, checksums)
        fps = self._rate()
        limits.check_duration(self._stream.frames / fps, "declared")
        end_s, _ = self._declared_end()
        self.declared_s = None if end_s is None else end_s - float((self._stream.start_time or 0) * self._tick)
        self._clock, self._pace = Clock(self._tick, 1 / fps), Pace(self._packets.usual_s() or 1 / fps)
        self._pixels_are_fixed = self._stream.sample_aspect_ratio != context.sample_aspect_ratio
        self._look: Look | None = None
        self._key: tuple[Any, ...] | None = None
        self._deinterlacer: Deinterlacer | None = None
        self._packets_read = self._errors = self._grey_frames = 0
        self._examine = examiner(context)
        self._is_lost = False  # libvpx gives nothing after a damaged frame up to the next key frame
        self._last_key: int | None = None  # timestamp of the frame of the last key packet; libvpx marks none
        self._before_key = not self._packets.begins_with_key
        width, height = displayed(context.width, context.height, self._aspect(), UPRIGHT)
        self.facts = Facts(
            width, height, fps, codec=context.codec.canonical_name, stream=self._stream.index, video_streams=streams,
            interlaced=False, clock_steps=0,
        )  # fmt: skip

    def close(self) -> None:
        """Release the decoder."""
        self._container.close()
        self._file.close()
        if self._summed is not None:
            self._summed.close()

    def frames(self) -> Iterator[Decoded]:
        """All frames in the order in which they are shown, from the first that can be decoded.

        Packets that fail are counted, not fatal, up to MAX_ERROR_SHARE.
        """
        facts, clock = self.facts, self._clock
        steps, is_back = 0, False
        for frame, time_s in clock.times(self._pictures()):
            look = self._seen(frame)
            if facts.frames == 0:
                self._describe(frame, look)
            if time_s > self._limits.max_duration_s:
                self._limits.check_duration(time_s, "decoded")
            facts.duration_s = clock.end_s
            facts.frames += 1
            is_key = self._is_key(frame)
            missing, (is_damaged, follows_loss) = self._pace.missing(time_s), self._damage.spoils(frame, is_key)
            if is_back or clock.steps > steps:  # where the file's clock slips and comes back nothing is missing
                missing = 0
            steps, is_back = clock.steps, clock.steps > steps
            yield Decoded(facts.frames - 1, time_s, _over_white(frame), look, is_key, is_damaged, missing, follows_loss)
        self._count()
        facts.duration_s, facts.clock_steps, facts.steadiness = clock.end_s, clock.steps, self._pace.steadiness
        facts.errors, facts.damage, self.errors_at_end = self._damage.errors, self._damage.words(), self._damage.unshown

    def _count(self) -> None:
        """Note frames that an AVI's header counts and that are missing at the end.

        Other headers count what an edit list leaves out too, or keep the count of the file that they were copied from.
        """
        end_s, counted = self._clock.raw_end_s, self._stream.frames
        if self._container.format.name == "avi" and counted and end_s is not None:
            missing = counted - round(end_s / self._tick)
            if missing > UNCOUNTED:
                self._damage.note([f"avi: {missing} of {counted} frames are missing at the end"], None)

    def skip_to(self, time_s: float) -> None:
        """Leave frames out up to the last key frame before `time_s`.

        Where the file's clock steps on the way, everything from the key frame before the step is decoded: so times are
        those of reading it all.
        """
        self._packets.skip_to(time_s)

    def check_length(self) -> None:
        """Refused when packets failed, or when less was decoded than the file declares.

        A truncated file may raise no error by itself. Where the container's own sizes vouch for its end, or the sound
        goes on to the declared end, nothing is missing.
        """
        if self._errors > MAX_ERROR_SHARE * self._packets_read:
            raise Refused(f"corrupt: {self._errors} of {self._packets_read} packets failed to decode")
        if not self.facts.frames:
            raise Refused("no_frames: nothing could be decoded")
        declared_s, tolerance_s = self._declared_end()
        if self._ending.whole or declared_s is None or self._clock.raw_end_s is None:
            return
        missing_s = declared_s - max(self._clock.raw_end_s, self._packets.heard_s)
        if missing_s > max(tolerance_s, 0.02 * declared_s):
            raise Refused(
                f"truncated: {self.facts.duration_s:.2f} s decoded, {missing_s:.2f} s of what is declared are missing"
            )

    # Frames: decoded, and what they look like.

    def _pictures(self) -> Iterator[VideoFrame]:
        """Decoded frames, deinterlaced from the first one on that is interlaced."""
        clock, facts = self._clock, self.facts
        for packet in self._packets.read(lambda: facts.frames > 0, lambda: clock.offset_s, self._left):
            for frame in self._decoded(packet):
                if self._begins_inside(frame):
                    continue
                if frame.interlaced_frame and self._deinterlacer is None:
                    self.facts.interlaced = True
                    self._deinterlacer = Deinterlacer(self._tick)
                if self._deinterlacer is None:
                    yield frame
                else:
                    yield from self._deinterlacer.feed(frame)
        if self._deinterlacer is not None:
            yield from self._deinterlacer.finish()

    def _decoded(self, packet: VideoPacket) -> list[VideoFrame]:
        """The frames that a packet brings; none where it fails, whatever word the decoder has for that."""
        self._packets_read += 1
        pts, frames = packet.dts if packet.pts is None else packet.pts, []
        self._is_lost = self._is_lost and not packet.is_keyframe
        with heard() as complaints:
            try:
                frames = self._decoder.decode(packet)
                self._is_lost = self._is_lost and not frames
            except av.error.MemoryError:
                raise
            except av.error.FFmpegError:
                if self._is_lost:
                    return []
                self._is_lost = self._decoder is not self._stream.codec_context
                self._errors += self.facts.frames > 0  # what comes before the first key frame is no damage
                complaints.append("a packet cannot be decoded")
        if packet.is_keyframe and frames:
            self._last_key = frames[0].pts
        if not self._before_key:
            self._damage.note(complaints + self._examine(packet), pts)
        return frames

    def _is_key(self, frame: VideoFrame) -> bool:
        return bool(frame.key_frame) or (
            self._decoder is not self._stream.codec_context and frame.pts is not None and frame.pts == self._last_key
        )

    def _left(self) -> None:
        """Packets were left out: what is in the decoder belongs to no frame that is wanted."""
        self._decoder.flush_buffers()
        self._clock.resume()
        if self._deinterlacer is not None:
            self._deinterlacer.reset()

    def _begins_inside(self, frame: VideoFrame) -> bool:
        """Whether the frame comes before the first key frame of a file that begins inside a group of pictures.

        Some decoders give what they have there, on gray.
        """
        if self._before_key and self._is_key(frame):
            self._before_key = False
            self._damage.begin(frame.pts)
        self._before_key = self._before_key and self._grey_frames < MOST_GREY
        self._grey_frames += self._before_key
        return self._before_key

    def _seen(self, frame: VideoFrame) -> Look:
        """How the frame lies in the file. One that equals the last one's is the same object."""
        key = (frame.width, frame.height, frame.format.name, frame.color_trc, frame.color_primaries)
        if self._look is not None and key == self._key and not self._is_key(frame):
            return self._look
        if key != self._key:
            self._limits.check_frame(frame.width, frame.height, frame.format.bits_per_pixel)
        self._key = key
        orientation = _orientation(frame)
        shown = displayed(frame.width, frame.height, self._aspect(), orientation)
        how = conversion(frame.color_trc, frame.color_primaries)
        look = Look((frame.width, frame.height), *shown, orientation, how)
        if look != self._look:
            self._look = look
        return self._look

    def _describe(self, frame: VideoFrame, look: Look) -> None:
        """What the first frame says of the file."""
        facts = self.facts
        facts.width, facts.height = look.width, look.height
        facts.transfer, facts.primaries = TRANSFERS.get(frame.color_trc), PRIMARIES.get(frame.color_primaries)
        facts.colour_range = "pc" if frame.format.name.startswith("yuvj") else RANGES.get(frame.color_range)
        facts.bit_depth = max(component.bits for component in frame.format.components)

    def _aspect(self) -> float:
        """Width over height of a pixel. The container's word counts; without one that of the stream, now."""
        said = self._stream if self._pixels_are_fixed else self._stream.codec_context
        return float(said.sample_aspect_ratio or 1) or 1.0

    # What the file declares.

    def _rate(self) -> float:
        """Frames a second: a rate that the file declares, unless timestamps show another one."""
        declared = [float(rate) for rate in (self._stream.average_rate, self._stream.guessed_rate) if rate]
        measured = measured_rate(self._packets.stamps(), float(self._tick))
        if measured is not None:
            within = 0.001 if self._container.format.name in UNTOLD else RATE_DIFFERS
            agreeing = [rate for rate in declared if abs(rate / measured - 1) <= within]
            return agreeing[0] if agreeing else measured
        if not declared:
            raise Refused("no_clock: the file has neither timestamps nor a frame rate")
        return declared[0]

    def _declared_end(self) -> tuple[float | None, float]:
        """Where the video ends by the file's words and its own clock, and how far off that may be, seconds."""
        seconds = duration_s(self._stream)
        if seconds is not None:
            begins = 0 if "DURATION" in self._stream.metadata else self._stream.start_time or 0  # a tag says the end
            return seconds + float(begins * self._tick), 0.25
        container = self._container
        if container.duration:
            return (container.duration + (container.start_time or 0)) / av.time_base, 0.5  # sound counts too
        return None, 0.0


def _decoder(stream: VideoStream) -> VideoCodecContext:
    """The decoder of a stream: FFmpeg's own, or libvpx for alpha and for VP9 of 8 bits, where it costs the same."""
    own = stream.codec_context
    has_alpha = stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1"
    is_examined = own.name == "vp9" and own.format is not None and own.format.components[0].bits == 8
    if own.name not in _LIBVPX or not (has_alpha or is_examined):
        own.thread_count = 1
        return own
    decoder = CodecContext.create(_LIBVPX[own.name], "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.extradata, decoder.thread_count = own.extradata, 1
    decoder.color_primaries, decoder.color_trc = own.color_primaries, own.color_trc  # what the container says
    return decoder


def _orientation(frame: VideoFrame) -> Orientation:
    matrix = display_matrix(frame)
    return UPRIGHT if matrix is None else Orientation.of_matrix(matrix)


def _over_white(frame: VideoFrame) -> VideoFrame:
    """The frame itself, or one without alpha, where it has alpha."""
    if not _has_alpha(frame.format.name):
        return frame
    return VideoFrame.from_ndarray(
        over_white(frame.to_ndarray(format="rgba").astype(np.uint8, copy=False)), format="rgb24"
    )


@cache
def _has_alpha(pixels: str) -> bool:
    kind = VideoFormat(pixels, 16, 16)
    return kind.has_palette or any(component.is_alpha for component in kind.components)


def _words(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
