"""Sound, decoded with PyAV inside the untrusted child: one track, 16 kHz, mono, on the clock of the pictures.

No picture is decoded. Second 0 is that of the video (`moving.py`), in a file with sound alone its first sample.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard, Disposition

from reelmill.errors import Refused
from reelmill.isolation import wire
from reelmill.media.clock import LONGEST_STEP_S
from reelmill.media.containers import HEAD, demuxer, is_video
from reelmill.media.limits import Limits
from reelmill.media.source import Source
from reelmill.media.streams import choose
from reelmill.media.video import MAX_ERROR_SHARE

RATE = 16_000
"""Samples a second, what speech models take."""
JOB = "reelmill.media.audio:sound"
_MESSAGE = 30 * RATE
_GAP_S = 0.1
"""Timestamps that differ by less from the number of samples are jitter, not a gap."""
_TICK_S = 1.0
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (8, b"WAVE", "wav"),
    (0, b"fLaC", "flac"),
    (0, b"ID3", "mp3"),
    (8, b"AIFF", "aiff"),
    (8, b"AIFC", "aiff"),
    (0, b"#!AMR", "amr"),
    (0, b"caff", "caf"),
    (0, b"wvpk", "wv"),
)
_READ = "wav, mp3, flac, aac, aiff, amr, caf, wv, and the sound of every container that videos come in"

Samples = npt.NDArray[np.int16]


def sound(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """What tracks a file has, then the chosen one.

    Yields `{"type": "track", "tracks", ...}` once, then `{"type": "sound"}` messages whose `samples`, int16 [N], follow
    one another without a gap from second 0 on; none where the file has no sound. Of several tracks the one that the
    file marks as its default is read, else the first. Raises Refused.
    """
    limits = Limits.of(options)
    limits.check_video_bytes(source.size)
    with source.open() as file:
        try:
            container = av.open(file, mode="r", format=sound_demuxer(file), metadata_errors="replace")
        except (av.error.FFmpegError, ValueError) as error:
            raise Refused(f"cannot_open: {' '.join(str(error).split())[:200]}") from None
        try:
            yield from _track(container, limits)
        finally:
            container.close()


def sound_demuxer(file: Any) -> str:
    """FFmpeg's name of the demuxer, by the file's first bytes, out of an allow-list. Raises Refused."""
    file.seek(0)
    head = file.read(HEAD)
    file.seek(0)
    for offset, magic, name in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return name
    if is_video(head):
        return demuxer(file)
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # MPEG audio or ADTS, whose layer bits are 0
        return "aac" if head[1] & 0x06 == 0 else "mp3"
    raise Refused(f"not_a_sound: the first bytes {head[:12]!r} belong to no file that is read ({_READ})")


def _track(container: InputContainer, limits: Limits) -> Iterator[wire.Message]:
    streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not streams:
        yield {"type": "track", "tracks": 0, "stream": 0, "codec": "none", "rate": 0, "channels": 0}, {}
        return
    begins_s = pictures_begin_s(container)
    stream = next((one for one in streams if one.disposition & Disposition.default), streams[0])
    for other in container.streams:
        other.discard = Discard.default if other.index == stream.index else Discard.all
    context = stream.codec_context
    language = str(stream.metadata.get("language", ""))[:16]
    yield (
        {
            "type": "track",
            "tracks": len(streams),
            "stream": stream.index,
            "codec": context.codec.canonical_name,
            "rate": context.sample_rate or 0,
            "channels": context.channels or 0,
            "language": language if language.isascii() and language.isalpha() else None,
        },
        {},
    )
    yield from _messages(_Track(container, stream, begins_s, limits).samples())


def pictures_begin_s(container: InputContainer) -> float | None:
    """Second 0 of the video by the file's clock; None where there is no video."""
    try:
        video, _ = choose(container)
    except Refused:
        return None
    return float((video.start_time or 0) * video.time_base) if video.time_base else None


def _messages(pieces: Iterator[Samples]) -> Iterator[wire.Message]:
    held: list[Samples] = []
    count, ticked = 0, time.monotonic()
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= _MESSAGE:
            yield {"type": "sound"}, {"samples": np.concatenate(held)}
            held, count = [], 0
        elif time.monotonic() - ticked > _TICK_S:
            ticked = time.monotonic()
            yield {"type": "tick"}, {}
    if count:
        yield {"type": "sound"}, {"samples": np.concatenate(held)}


class _Track:
    """Decodes a track. What the clock leaves out is silence; a step of the clock (`clock.py`) is none."""

    def __init__(self, container: InputContainer, stream: AudioStream, begins_s: float | None, limits: Limits) -> None:
        self._container, self._stream, self._limits = container, stream, limits
        self._zero_s = begins_s
        self._count = 0  # samples given
        self._skip = 0  # samples before second 0
        self._form: tuple[str, str, int] | None = None
        self._resampler: av.AudioResampler | None = None

    def samples(self) -> Iterator[Samples]:
        """Pieces of int16 [N] that follow one another."""
        packets = errors = 0
        for packet in self._container.demux(self._stream):
            packets += 1
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                errors += 1
                continue
            for frame in frames:
                assert isinstance(frame, AudioFrame)
                yield from self._placed(frame)
        yield from self._trimmed(self._resampled(None))
        if errors > MAX_ERROR_SHARE * packets:
            raise Refused(f"corrupt: {errors} of {packets} packets of the sound failed to decode")

    def _placed(self, frame: AudioFrame) -> Iterator[Samples]:
        """The frame's samples, after silence where the clock says that something is missing before them."""
        if frame.time is not None:
            if self._zero_s is None:
                self._zero_s = frame.time
            ahead_s = frame.time - self._zero_s - (self._count - self._skip) / RATE
            if not self._count and not self._skip and ahead_s < 0:
                self._skip = round(-ahead_s * RATE)
            elif _GAP_S < ahead_s <= LONGEST_STEP_S:
                yield from self._trimmed(self._resampled(None))
                yield from self._trimmed(np.zeros(round(ahead_s * RATE), np.int16))
            elif abs(ahead_s) > _GAP_S:
                self._zero_s += ahead_s
        yield from self._trimmed(self._resampled(frame))

    def _resampled(self, frame: AudioFrame | None) -> Samples:
        """A frame at 16 kHz, mono; for None what is left in the resampler."""
        pieces: list[AudioFrame] = []
        form = (frame.format.name, frame.layout.name, frame.sample_rate) if frame else None
        if self._resampler is not None and form != self._form:
            pieces += self._resampler.resample(None)
            self._resampler = None
        if frame is not None:
            if self._resampler is None:
                self._resampler, self._form = av.AudioResampler(format="s16", layout="mono", rate=RATE), form
            pieces += self._resampler.resample(frame)
        arrays = [np.asarray(piece.to_ndarray(), np.int16).reshape(-1) for piece in pieces]
        return np.concatenate(arrays) if arrays else np.zeros(0, np.int16)

    def _trimmed(self, piece: Samples) -> Iterator[Samples]:
        before = max(self._skip - self._count, 0)
        self._count += len(piece)
        self._limits.check_duration(self._count / RATE, "of sound decoded")
        if len(piece) > before:
            yield piece[before:]
