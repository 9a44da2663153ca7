"""Video decoding with PyAV, for use inside the untrusted child: one sequential pass, upright frames, honest times.

The demuxer is chosen from the file's first bytes out of an allow-list and forced, so that a playlist, a subtitle or a
script renamed to .mp4 is refused and nothing outside the given bytes is ever opened.
"""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from reelmill.errors import Refused
from reelmill.media.source import Source

FALLBACK_FPS = 25.0
MAX_ERROR_SHARE = 0.05
"""A file in which more than this share of the packets fails to decode is refused."""


@dataclass(frozen=True)
class VideoLimits:
    """Bounds on one video; anything over them is refused before or while it is decoded."""

    max_bytes: int = 16 * 1024**3
    max_pixels: int = 8192 * 4320
    max_duration_s: float = 6 * 3600.0


@dataclass(frozen=True)
class Decoded:
    """One frame: `index` counts from 0, `time_s` from the first frame; `frame` is as stored (not yet upright)."""

    index: int
    time_s: float
    frame: VideoFrame


class Video:
    """An opened video: facts, then `frames()`.

    `width` and `height` are as displayed: rotation metadata and the pixels' aspect ratio applied. Raises Refused.
    """

    def __init__(self, source: Source, limits: VideoLimits) -> None:
        if source.size > limits.max_bytes:
            raise Refused(f"too_large: {source.size} bytes, allowed {limits.max_bytes}")
        self._stream_in = source.open()
        try:
            self._container = av.open(
                self._stream_in, mode="r", format=_demuxer(self._stream_in), metadata_errors="replace"
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise Refused(f"cannot_open: {_words(error)}") from None
        if not self._container.streams.video:
            raise Refused("no_video: the file has no video stream")
        self._stream = self._container.streams.video[0]
        context = self._stream.codec_context
        context.thread_count = 1
        if context.width * context.height > limits.max_pixels:
            raise Refused(f"too_many_pixels: {context.width}x{context.height}, allowed {limits.max_pixels} pixels")
        self._limits = limits
        # One for each pixel format: the detectors' pictures and the kept ones take turns, and a reformatter that is
        # asked for something else than the last time sets itself up anew, which costs more than the scaling.
        self._reformatters: defaultdict[str, VideoReformatter] = defaultdict(VideoReformatter)
        self._first_pts: int | None = None
        self.codec = context.name
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate and 0.1 <= float(rate) <= 1000 else FALLBACK_FPS
        self.declared_s, self._tolerance_s = self._declared_duration()
        if self.declared_s is not None and self.declared_s > limits.max_duration_s:
            raise Refused(f"too_long: {self.declared_s:.0f} s declared, allowed {limits.max_duration_s:.0f} s")
        self.errors = 0
        self.packets = 0
        self.end_s = 0.0
        self.rotation = 0
        self._aspect = float(self._stream.sample_aspect_ratio or 1) or 1.0
        self.width, self.height = self._displayed(context.width, context.height)

    def close(self) -> None:
        """Release the decoder."""
        self._container.close()
        self._stream_in.close()

    def frames(self) -> Iterator[Decoded]:
        """All frames in display order. Packets that fail are counted, not fatal, up to MAX_ERROR_SHARE."""
        index = -1
        for packet in self._container.demux(self._stream):
            self.packets += 1
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                self.errors += 1
                continue
            for frame in frames:
                index += 1
                decoded = self._timed(index, frame)
                if decoded.time_s > self._limits.max_duration_s:
                    raise Refused(f"too_long: over {self._limits.max_duration_s:.0f} s decoded")
                yield decoded

    @property
    def seekable(self) -> bool:
        """Whether times are known: a first frame was read (it defines time zero) and frames carry timestamps."""
        return self._first_pts is not None and self._stream.time_base is not None

    def frames_from(self, start_s: float) -> Iterator[Decoded]:
        """Frames from the keyframe at or before `start_s`; indices are not counted from the start of the file.

        Only when `seekable`. The iteration begins after `start_s` when the file's index is wrong: the caller checks.
        """
        assert self._first_pts is not None
        assert self._stream.time_base is not None
        self._container.seek(self._first_pts + math.floor(start_s / self._stream.time_base), stream=self._stream)
        yield from self.frames()

    def check_length(self) -> None:
        """Compare what was decoded with what the file declares; a truncated file may raise no error by itself."""
        if self.packets and self.errors / self.packets > MAX_ERROR_SHARE:
            raise Refused(f"corrupt: {self.errors} of {self.packets} packets failed to decode")
        if self.declared_s is None:
            return
        missing = self.declared_s - self.end_s
        if missing > max(self._tolerance_s, 0.02 * self.declared_s):
            raise Refused(f"truncated: {self.end_s:.2f} s decoded of {self.declared_s:.2f} s declared")

    def upright(self, frame: VideoFrame, width: int, height: int, pixels: str, best: bool) -> npt.NDArray[np.uint8]:
        """`frame` scaled to the displayed size width x height, turned upright.

        `pixels` is "rgb24" or "gray"; `best` scales bicubically (tokens), else fast bilinearly (scores).
        """
        turned = self.rotation % 180 == 90
        stored = (height, width) if turned else (width, height)
        kind = Interpolation.BICUBIC if best else Interpolation.FAST_BILINEAR
        scaled = self._reformatters[pixels].reformat(frame, *stored, pixels, interpolation=kind)
        return self.turned(scaled.to_ndarray().astype(np.uint8, copy=False))

    def small(self, frame: VideoFrame, width: int, height: int) -> npt.NDArray[np.uint8]:
        """`frame` as BGR for the cut detectors, width x height as stored, not turned.

        Scaled as YUV 4:2:0 and made BGR only then: swscale takes a third less time so than in one step.
        """
        kind = Interpolation.FAST_BILINEAR
        planes = self._reformatters["yuv420p"].reformat(frame, width, height, "yuv420p", interpolation=kind)
        return self._reformatters["bgr24"].reformat(planes, format="bgr24").to_ndarray().astype(np.uint8, copy=False)

    def turned(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """A picture of a stored frame, turned upright."""
        return np.ascontiguousarray(np.rot90(picture, self.rotation // 90)) if self.rotation else picture

    def _timed(self, index: int, frame: VideoFrame) -> Decoded:
        base = self._stream.time_base
        if index == 0 and self._first_pts is None:
            self._first_pts = frame.pts
            # PyAV reports the display matrix's angle, counter-clockwise, which is what has to be undone clockwise.
            self.rotation = round(frame.rotation / 90) * 90 % 360
            self.width, self.height = self._displayed(frame.width, frame.height)
        if frame.pts is None or self._first_pts is None or base is None:
            time_s = index / self.fps
        else:
            time_s = max((frame.pts - self._first_pts) * base.numerator / base.denominator, 0.0)
        self.end_s = max(self.end_s, time_s + 1.0 / self.fps)
        return Decoded(index, time_s, frame)

    def _displayed(self, width: int, height: int) -> tuple[int, int]:
        width = max(round(width * self._aspect), 1)
        return (height, width) if self.rotation % 180 == 90 else (width, height)

    def _declared_duration(self) -> tuple[float | None, float]:
        """Seconds the file says its video lasts, and how far that may be off (containers count audio in)."""
        stream = self._stream
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base), 0.25
        tag = stream.metadata.get("DURATION", "")
        parts = tag.split(":")
        if len(parts) == 3:
            hours, minutes, seconds = (float(part) for part in parts)
            return 3600 * hours + 60 * minutes + seconds, 0.25
        if self._container.duration:
            return self._container.duration / av.time_base, 0.5
        return None, 0.0


def fit(width: int, height: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Size with the aspect kept, shorter side at most `short_side`, longer at most `long_side`, never enlarged."""
    scale = min(1.0, short_side / min(width, height), long_side / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _demuxer(stream: io.BufferedReader) -> str:
    head = stream.read(16)
    stream.seek(0)
    for offset, magic, name in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return name
    raise Refused(f"not_a_video: the first bytes {head[:12]!r} belong to no container that is read ({_CONTAINERS})")


_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyp", "mov"),
    (4, b"moov", "mov"),
    (4, b"mdat", "mov"),
    (4, b"wide", "mov"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (8, b"AVI ", "avi"),
    (0, b"FLV", "flv"),
    (0, b"OggS", "ogg"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (0, b"\x00\x00\x01\xba", "mpeg"),
    (0, b"G", "mpegts"),
)
_CONTAINERS = "mp4/mov, mkv/webm, avi, flv, ogg, asf, mpeg, ts"


def _words(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200]


def limits(options: dict[str, Any]) -> VideoLimits:
    """VideoLimits out of a job's options."""
    return VideoLimits(options["max_bytes"], options["max_pixels"], options["max_duration_s"])
