"""Encoding with PyAV: the same frames give the same bytes on every run (one thread, bit-exact containers)."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from reelmill.pipelines.sampledump.paint import Picture

Container = Literal["mp4", "mov", "matroska", "webm", "avi"]
TICKS = 1000
"""Timestamps are given in milliseconds where they are irregular."""
AUDIO_RATE = 22_050
# Macroblock tree rate control reads memory that it has not written: with it the bytes differ from run to run.
_X264 = {"preset": "veryfast", "crf": "20", "x264-params": "threads=1:mbtree=0"}
_OPTIONS = {
    "libx264": _X264,
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "34", "b": "0", "row-mt": "0"},
    "mpeg4": {"qscale": "5", "flags": "+qscale", "global_quality": "590"},
}


@dataclass(frozen=True)
class Encoding:
    """Container, codec and pixel format of a video; `times_ms` makes its timestamps irregular, `tone` adds sound."""

    container: Container = "mp4"
    codec: Literal["libx264", "libvpx-vp9", "mpeg4"] = "libx264"
    pixels: Literal["yuv420p", "yuv444p"] = "yuv420p"
    times_ms: tuple[int, ...] = field(default=())
    tone: bool = False


def encode(frames: Iterable[Picture], width: int, height: int, fps: int, encoding: Encoding) -> bytes:
    """A whole video file. `frames` are uint8 [height, width, 3], RGB."""
    out = io.BytesIO()
    with av.open(out, mode="w", format=encoding.container, options={"fflags": "+bitexact"}) as container:
        stream = _video_stream(container, width, height, fps, encoding)
        sound = _sound_stream(container) if encoding.tone else None
        reformatter = VideoReformatter()  # one for all frames: setting it up costs more than its work
        seconds = 0.0
        for index, picture in enumerate(frames):
            frame = reformatter.reformat(
                VideoFrame.from_ndarray(picture, format="rgb24"), format=encoding.pixels, threads=1
            )
            irregular = encoding.times_ms[index] if encoding.times_ms else None
            frame.pts, frame.time_base = (
                (index, Fraction(1, fps)) if irregular is None else (irregular, Fraction(1, TICKS))
            )
            container.mux(stream.encode(frame))
            seconds = (index + 1) / fps
        container.mux(stream.encode())
        if sound is not None:
            _hum(container, sound, seconds)
    return out.getvalue()


def _video_stream(container: OutputContainer, width: int, height: int, fps: int, encoding: Encoding) -> VideoStream:
    stream = container.add_stream(encoding.codec, rate=fps, options=_OPTIONS[encoding.codec])
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, encoding.pixels
    stream.codec_context.thread_count = 1
    stream.codec_context.flags |= Flags.bitexact
    if encoding.times_ms:
        stream.codec_context.time_base = Fraction(1, TICKS)
    return stream


def _sound_stream(container: OutputContainer) -> AudioStream:
    stream = container.add_stream("aac", rate=AUDIO_RATE, layout="mono")
    assert isinstance(stream, AudioStream)
    stream.bit_rate = 48_000
    stream.codec_context.flags |= Flags.bitexact
    return stream


def _hum(container: OutputContainer, stream: AudioStream, seconds: float) -> None:
    """A quiet chord that beats like a train's wheels."""
    times = np.arange(int(seconds * AUDIO_RATE)) / AUDIO_RATE
    chord = sum(np.sin(2 * np.pi * pitch * times) for pitch in (110.0, 164.8, 220.0))
    wave = (0.08 * chord * (0.6 + 0.4 * np.sin(2 * np.pi * 2 * times))).astype(np.float32)
    for start in range(0, len(wave), 1024):
        frame = AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def rotated(mp4: bytes) -> bytes:
    """Mark an mp4/mov as to be shown turned by 90 degrees clockwise: the matrix of its first `tkhd` box.

    The matrix is nine big-endian 32-bit numbers (a b u c d v x y w), 16.16 fixed point (ISO/IEC 14496-12, 8.3.2); in a
    version 0 box it begins 40 bytes after the type.
    """
    box = mp4.index(b"tkhd")
    if mp4[box + 4] != 0:
        raise ValueError("only version 0 of the tkhd box is written by this muxer")
    place = box + 4 + 40
    one = 1 << 16
    matrix = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    return mp4[:place] + matrix + mp4[place + len(matrix) :]


def cut_short(data: bytes, share: float) -> bytes:
    """The first `share` of the bytes, as an interrupted download leaves them."""
    return data[: int(len(data) * share)]
