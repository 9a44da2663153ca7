"""Odd media files, written with PyAV and Pillow alone, as the tests of reading need them.

Every picture has four flat corners, red, green, blue and light, by which one sees whether it is upright and what became
of its colours; what lies between drifts with the number of the frame.
"""

import struct
from fractions import Fraction

import av
import numpy as np

RED, GREEN, BLUE, LIGHT = (200, 40, 40), (40, 180, 40), (40, 40, 200), (220, 220, 220)
CORNERS = (RED, GREEN, BLUE, LIGHT)
"""Top left, top right, bottom left, bottom right."""
FPS = 10
WIDTH, HEIGHT = 128, 96


def picture(number=0, width=WIDTH, height=HEIGHT):
    """uint8 [H, W, 3]: the corners take a third of each side, between them a pattern that drifts."""
    image = np.empty((height, width, 3), np.uint8)
    y, x = np.mgrid[:height, :width]
    image[:] = (np.sin((x + 5 * number) / 9) * 40 + np.cos(y / 7) * 40 + 128).astype(np.uint8)[..., None]
    h, w = height // 3, width // 3
    for colour, rows, columns in (
        (RED, slice(0, h), slice(0, w)),
        (GREEN, slice(0, h), slice(width - w, width)),
        (BLUE, slice(height - h, height), slice(0, w)),
        (LIGHT, slice(height - h, height), slice(width - w, width)),
    ):
        image[rows, columns] = colour
    return image


def corners_of(image):
    """The four corners' colours, a sixth of the sides from the edge."""
    h, w = image.shape[0] // 6, image.shape[1] // 6
    return [tuple(int(v) for v in image[y, x]) for y, x in ((h, w), (h, -1 - w), (-1 - h, w), (-1 - h, -1 - w))]


def pictures(count, width=WIDTH, height=HEIGHT, first=0):
    """So many pictures."""
    return [picture(first + n, width, height) for n in range(count)]


class Film:
    """A file being written: one video stream to begin with, others when asked for."""

    def __init__(self, path, container=None, options=None):
        self.path = path
        self._out = av.open(str(path), "w", format=container, options=options or {})
        self._out.metadata["title"] = "odd"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._out.close()

    def video(self, width=WIDTH, height=HEIGHT, *, codec="libx264", pixels="yuv420p", fps=FPS, ticks=None, colours=None,
              options=None, aspect=None):  # fmt: skip
        """A video stream. `ticks`: units a second of its timestamps; `colours`: matrix, transfer, primaries, range."""
        stream = self._out.add_stream(codec, rate=_rate(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        fast = {"libx264": {"preset": "ultrafast", "crf": "12", "g": "10", "bf": "0"}}.get(codec, {})
        stream.options = {**fast, **(options or {}), "threads": "1"}
        context = stream.codec_context
        context.time_base = stream.time_base = Fraction(1, ticks) if ticks else 1 / _rate(fps)
        if colours:
            context.colorspace, context.color_trc, context.color_primaries, context.color_range = colours
        if aspect:
            context.sample_aspect_ratio = aspect
        stream.codec_context.qmin = 1
        return stream

    def encode(self, stream, images, *, pts=None, move=lambda packet: packet, pixels="rgb24"):
        """Encode and mux images. `pts`: their ticks; `move` changes packets, or drops them with None."""
        base = stream.codec_context.time_base
        for n, image in enumerate(images):
            frame = image if isinstance(image, av.VideoFrame) else av.VideoFrame.from_ndarray(image, format=pixels)
            frame.pts = n if pts is None else pts[n]
            frame.time_base = base
            self._mux(stream.encode(frame), move)
        self._mux(stream.encode(), move)

    def _mux(self, packets, move):
        for packet in packets:
            moved = move(packet)
            if moved is not None:
                self._out.mux(moved)

    def sound(self, codec="aac", rate=22050):
        """An audio stream."""
        return self._out.add_stream(codec, rate=rate, layout="mono")

    def hum(self, stream, seconds):
        """Encode and mux so much sound."""
        rate = stream.codec_context.sample_rate
        size = stream.codec_context.frame_size or 1024
        for n in range(0, int(seconds * rate), size):
            wave = (np.sin(np.arange(n, n + size) / 20) * 0.1).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, n, Fraction(1, rate)
            for resampled in _resampled(frame, stream):
                self._out.mux(stream.encode(resampled))
        self._out.mux(stream.encode())


def _rate(fps):
    return Fraction(fps).limit_denominator(1001)


def _resampled(frame, stream):
    context = stream.codec_context
    if context.format.name == frame.format.name:
        return [frame]
    return av.AudioResampler(context.format.name, "mono", context.sample_rate).resample(frame)


def film(path, images=None, *, seconds=2, container=None, muxing=None, sound_s=0, sound="aac", pts=None,
         move=lambda packet: packet, stream_pixels="rgb24", **how):  # fmt: skip
    """A file with one video stream, and sound where `sound_s` is not 0."""
    images = pictures(int(seconds * FPS)) if images is None else images
    first = images[0]
    height, width = first.shape[:2] if isinstance(first, np.ndarray) else (first.height, first.width)
    with Film(path, container, muxing) as out:
        stream = out.video(how.pop("width", width), how.pop("height", height), **how)
        hum = out.sound(sound) if sound_s else None
        out.encode(stream, images, pts=pts, move=move, pixels=stream_pixels)
        if hum is not None:
            out.hum(hum, sound_s)
    return path


def boxes(data, start=0, end=None):
    """(kind, start, end) of the boxes of an MP4 between two places."""
    at, end = start, len(data) if end is None else end
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, at)
        length = struct.unpack_from(">Q", data, at + 8)[0] if length == 1 else length or end - at
        yield kind, at, at + length
        at += length


def set_matrix(path, matrix):
    """Write a display matrix (a, b, c, d) into an MP4's first track."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (int(value * 65536) for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def rename_first_box(path, kind):
    """Give the first box of an MP4 another kind."""
    data = bytearray(path.read_bytes())
    data[4:8] = kind
    path.write_bytes(data)
    return path


def cut(path, share=None, end=None):
    """Keep the first share of a file's bytes, or all before byte `end` (negative: from the end)."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)] if share is not None else data[:end])
    return path


def with_time_codes(path):
    """Make 192-byte packets of a transport stream's 188."""
    data = path.read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    path.write_bytes(b"".join(struct.pack(">I", n) + packet for n, packet in enumerate(packets)))
    return path
