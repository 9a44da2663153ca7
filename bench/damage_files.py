"""Files for `bench/damage.py`: rendered sound media of many kinds, and ways to damage them."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

ImageFile.MAXBLOCK = 1 << 24  # a progressive JPEG of noise is written in one piece

Pictures = npt.NDArray[np.uint8]
SIZES = ((160, 120), (176, 144), (256, 144), (202, 360), (320, 240), (426, 240), (640, 360))


# Content.


def _texture(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float32]:
    """A picture with detail at all scales, as photographs have it."""
    picture = np.full((height, width, 3), 128, np.float32)
    for cell in (128, 64, 32, 16, 8, 4, 2):
        grid = rng.normal(size=(height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        grid = 0.6 * grid + 0.8 * grid.mean(axis=2, keepdims=True)
        picture += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * (4 * cell**0.5)
    return picture


def pan(rng: np.random.Generator, count: int, height: int, width: int) -> Iterator[npt.NDArray[np.float32]]:
    """A camera that moves over a landscape, turns and zooms, with grain."""
    land = _texture(rng, height * 2, width * 2)
    dx, dy, turn, zoom = rng.uniform(-3, 3), rng.uniform(-2, 2), rng.uniform(-0.3, 0.3), rng.uniform(-0.004, 0.004)
    for n in range(count):
        matrix = cv2.getRotationMatrix2D((width, height), turn * n, 1 + zoom * n)
        matrix[:, 2] += (dx * n - width / 2, dy * n - height / 2)
        seen = cv2.warpAffine(land, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        yield seen + rng.normal(0, 3, (height, width, 1)).astype(np.float32)


def cartoon(rng: np.random.Generator, count: int, height: int, width: int) -> Iterator[Pictures]:
    """Flat shapes with hard edges that move by whole pixels; some lie on the encoder's grid."""
    shapes = [
        (rng.integers(0, 256, 3).tolist(), rng.uniform(0, width), rng.uniform(0, height), rng.integers(12, 60),
         rng.integers(-4, 5), rng.integers(-3, 4), rng.integers(0, 2))
        for _ in range(8)
    ]  # fmt: skip
    ground = rng.integers(120, 256, 3).tolist()
    for n in range(count):
        image = np.full((height, width, 3), ground, np.uint8)
        image[: height // 16 * 8, : width // 32 * 16] = ground[::-1]
        for colour, x, y, size, dx, dy, is_round in shapes:
            at = (int(x + dx * n) % width, int(y + dy * n) % height)
            if is_round:
                cv2.circle(image, at, int(size), colour, -1)
            else:
                cv2.rectangle(image, at, (at[0] + int(size), at[1] + int(size)), colour, -1)
        yield image


def screen(rng: np.random.Generator, count: int, height: int, width: int) -> Iterator[Pictures]:
    """A screen: windows and lines of text that scroll now and then, a cursor, long stills."""
    page = np.full((height * 3, width, 3), 255, np.uint8)
    for y in range(12, height * 3 - 4, 12):
        words = "".join(rng.choice(list("abcde fghik lmnop rstu "), width // 7))
        cv2.putText(page, words, (6, y), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (20, 20, 20), 1, cv2.LINE_AA)
    top, window, cursor = 0, None, [width // 2, height // 2]
    for n in range(count):
        if n % 9 == 8:
            top = (top + int(rng.choice([12, 16, 48]))) % (2 * height)
        if n % 16 == 11:
            window = None if window else (16 * int(rng.integers(0, 4)), 16 * int(rng.integers(0, 3)))
        image = page[top : top + height].copy()
        if window:
            x, y = window
            image[y : y + 64, x : x + 96] = (60, 90, 200)
            image[y + 8 : y + 64, x : x + 96] = (230, 230, 230)
        if n % 3 == 0:
            cursor = [int(c + rng.integers(-9, 10)) for c in cursor]
        cv2.circle(image, (cursor[0], cursor[1]), 3, (0, 0, 0), -1)
        yield image


def noise(rng: np.random.Generator, count: int, height: int, width: int) -> Iterator[Pictures]:
    """Noise."""
    for _ in range(count):
        yield rng.integers(0, 256, (height, width, 3), np.uint8)


def fades(rng: np.random.Generator, count: int, height: int, width: int) -> Iterator[npt.NDArray[np.float32]]:
    """Out of black, a cross fade, hard cuts, a flash, into white."""
    pictures = [_texture(rng, height, width) for _ in range(3)]
    for n in range(count):
        at = n / count
        if at < 0.2:
            yield pictures[0] * (at / 0.2)
        elif at < 0.45:
            share = (at - 0.2) / 0.25
            yield pictures[0] * (1 - share) + pictures[1] * share
        elif at < 0.5:
            yield pictures[1] if n % 2 else pictures[1] + 110
        elif at < 0.8:
            yield pictures[2] if int(at * 20) % 2 else pictures[0]
        else:
            yield pictures[2] + (255 - pictures[2]) * ((at - 0.8) / 0.2)


def pixels(rng: np.random.Generator, count: int, height: int, width: int) -> Iterator[Pictures]:
    """A game of large square pixels, 8 or 16 wide: its sprites move by whole pixels, now and then the scene jumps."""
    side = int(rng.choice([4, 8, 16]))
    rows, columns = height // side + 1, width // side + 1
    palette = rng.integers(0, 256, (6, 3), np.uint8)
    ground = palette[rng.integers(0, 3, (rows, columns * 3))]
    sprite = palette[rng.integers(3, 6, (3, 3))]
    for n in range(count):
        image = ground[:, (n // 4) % columns :][:, :columns].copy()
        y, x = (n // 3) % max(rows - 3, 1), (n * 2 // 3) % max(columns - 3, 1)
        image[y : y + 3, x : x + 3] = sprite
        yield np.kron(image, np.ones((side, side, 1), np.uint8))[:height, :width]


def mosaic(rng: np.random.Generator, count: int, height: int, width: int) -> Iterator[npt.NDArray[np.float32]]:
    """A moving picture of which a part is hidden behind coarse squares, as faces and number plates are."""
    for image in pan(rng, count, height, width):
        h, w = height // 48 * 16, width // 48 * 16
        coarse = cv2.resize(image[:h, :w], (w // 16, h // 16), interpolation=cv2.INTER_AREA)
        image[:h, :w] = np.kron(coarse, np.ones((16, 16, 1), np.float32))
        yield image


def slides(rng: np.random.Generator, count: int, height: int, width: int) -> Iterator[npt.NDArray[np.float32]]:
    """A slide show."""
    pictures = [_texture(rng, height, width) for _ in range(3)]
    for n in range(count):
        yield pictures[n * 3 // count]


def still(rng: np.random.Generator, count: int, height: int, width: int) -> Iterator[Pictures]:
    """One drawing that does not move."""
    image = next(cartoon(rng, 1, height, width))
    for _ in range(count):
        yield image


def titles(rng: np.random.Generator, count: int, height: int, width: int) -> Iterator[Pictures]:
    """A camera that stands still; large words come and go at once, and single frames flash."""
    ground = _texture(rng, height, width)
    for n in range(count):
        light = 100 if n % 19 == 5 else 0
        image = np.clip(ground + rng.normal(light, 2, (height, width, 1)), 0, 255).astype(np.uint8)
        if n // 7 % 2:
            words = "".join(rng.permutation(list("REELMILL")) if n % 7 == 0 else list("REELMILL"))
            cv2.putText(image, words, (4, height // 2), cv2.FONT_HERSHEY_DUPLEX, width / 170, (250, 250, 250), 4)
        yield image


Show = Callable[[np.random.Generator, int, int, int], Iterator[npt.NDArray[np.generic]]]
SHOWS: tuple[Show, ...] = (pan, cartoon, screen, fades, pan, pixels, mosaic, slides, noise, still, titles)


# Encoding.


@dataclass(frozen=True)
class How:
    """A container, a codec and its options. `odd` times: `vfr`, `pauses`, or a constant rate."""

    suffix: str
    codec: str
    options: dict[str, str]
    pixels: str = "yuv420p"
    times: str = "constant"
    muxing: dict[str, str] | None = None
    sizes: tuple[tuple[int, int], ...] = SIZES
    sound: bool = False


def _x264(**options: str) -> dict[str, str]:
    return {"preset": "veryfast", **options}


VP = {"cpu-used": "8", "deadline": "realtime"}
HIDDEN = {"cpu-used": "5", "deadline": "good", "auto-alt-ref": "1", "lag-in-frames": "12"}
"""Encoders of VP8 and VP9 then add frames that are predicted from and never shown."""
CIF = ((176, 144), (352, 288))
HOWS: tuple[How, ...] = (
    How("mp4", "libx264", _x264(crf="23", g="250")),
    How("mp4", "libx264", _x264(crf="30", g="12", bf="0", profile="baseline"), sound=True),
    How("mp4", "libx264", _x264(crf="20", g="30", **{"x264-params": "open-gop=1:bframes=3:b-pyramid=normal"})),
    How("mp4", "libx264", _x264(crf="26", g="24", **{"x264-params": "slices=4:cabac=0"})),
    How("mp4", "libx264", _x264(crf="26", **{"x264-params": "intra-refresh=1:keyint=20"})),
    How("mp4", "libx264", _x264(crf="40", g="50", tune="zerolatency")),
    How("mp4", "libx264", _x264(crf="23", g="48"), times="vfr"),
    How("mp4", "libx264", _x264(crf="23", g="48"), times="pauses"),
    How("mp4", "libx264", _x264(crf="25", g="24"), muxing={"movflags": "frag_keyframe+empty_moov"}),
    How("mp4", "libx264", _x264(crf="18", g="24", profile="high10"), "yuv420p10le"),
    How("mp4", "libx265", {"preset": "ultrafast", "crf": "26", "x265-params": "log-level=none:keyint=40"}),
    How("mp4", "libx265", {"preset": "ultrafast", "crf": "30", "x265-params": "log-level=none:open-gop=1:keyint=20"}),
    How("mp4", "libsvtav1", {"preset": "12", "crf": "40", "g": "40"}),
    How("mp4", "libvpx-vp9", {**VP, "g": "30"}),
    How("mp4", "libx264", _x264(crf="45", g="12", sc_threshold="0")),
    How("mov", "libx264", _x264(crf="23", g="1")),
    How("mov", "mjpeg", {"q": "4"}, "yuvj420p"),
    How("mov", "prores_ks", {"profile": "0"}, "yuv422p10le"),
    How("mov", "qtrle", {}, "rgb24"),
    How("mkv", "libx264", _x264(crf="24", g="60"), times="vfr"),
    How("mkv", "libx264", _x264(crf="24", g="30"), sound=True),
    How("mkv", "mpeg4", {"g": "12"}),
    How("mkv", "ffv1", {"level": "3", "slicecrc": "1", "slices": "4"}),
    How("mkv", "libsvtav1", {"preset": "12", "crf": "35", "g": "24"}),
    How("webm", "libvpx", {**VP, "b": "500k", "g": "40"}),
    How("webm", "libvpx-vp9", {**VP, "b": "400k", "g": "60"}),
    How("webm", "libvpx-vp9", {**VP, "crf": "36", "b": "0", "g": "20"}, muxing={"live": "1"}),
    How("webm", "libvpx-vp9", {**VP, "b": "400k"}, times="pauses"),
    How("webm", "libvpx-vp9", {**HIDDEN, "crf": "30", "b": "0", "g": "48", "tile-columns": "2"}, sizes=((640, 360),)),
    How("webm", "libvpx-vp9", {**VP, "b": "200k", "g": "25", "error-resilient": "1", "frame-parallel": "1"}),
    How("webm", "libvpx-vp9", {**HIDDEN, "lossless": "1", "g": "12"}, "yuv444p", sizes=CIF),
    How("webm", "libvpx", {**HIDDEN, "b": "300k", "g": "30", "slices": "4"}),
    How("avi", "mpeg4", {"g": "12", "bf": "0"}),
    How("avi", "mpeg4", {"g": "50", "b": "300k"}, sound=True),
    How("avi", "msmpeg4v2", {"g": "25"}),
    How("avi", "mjpeg", {}, "yuvj420p"),
    How("avi", "libx264", _x264(crf="25", g="25", bf="0")),
    How("avi", "ffvhuff", {}),
    How("wmv", "wmv2", {"g": "25", "b": "400k"}),
    How("asf", "msmpeg4", {"g": "25"}),
    How("flv", "flv", {"g": "25"}),
    How("flv", "libx264", _x264(crf="25", g="50"), sound=True),
    How("3gp", "h263", {"g": "20"}, sizes=CIF),
    How("mpg", "mpeg1video", {"g": "15"}),
    How("mpg", "mpeg2video", {"g": "12", "bf": "2"}),
    How("mpg", "mpeg2video", {"g": "15", "bf": "2", "flags": "+ildct+ilme"}),
    How("ts", "libx264", _x264(crf="24", g="25")),
    How("ts", "mpeg2video", {"g": "12", "b": "1M"}),
    How("ts", "libx265", {"preset": "ultrafast", "crf": "28", "x265-params": "log-level=none:keyint=25"}),
    How("mxf", "mpeg2video", {"g": "12"}),
    How("ivf", "libvpx", {**VP, "g": "30"}),
)


def render(path: Path, how: How, show: Show, seed: int) -> None:
    """Write one video of 1 to 3 s."""
    rng = np.random.default_rng(seed)
    width, height = how.sizes[int(rng.integers(len(how.sizes)))]
    fps = int(rng.choice([25, 30, 50])) if how.codec.startswith("mpeg") else int(rng.choice([12, 24, 25, 30]))
    count = int(rng.integers(30, 76)) * 160 * 120 // max(width * height // 2, 160 * 120)
    count = max(count, 20)
    if show is slides and how.times != "constant":
        count = 8
    with av.open(str(path), "w", options=how.muxing or {}) as out:
        stream = out.add_stream(how.codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, how.pixels
        stream.options = {**how.options, "threads": "1"}
        tick = Fraction(1, fps) if how.times == "constant" else Fraction(1, 1000)
        stream.codec_context.time_base = tick
        hum = out.add_stream("aac" if how.suffix in ("mp4", "mkv", "flv") else "mp2", rate=44100) if how.sound else None
        at = 0
        for n, image in enumerate(show(rng, count, height, width)):
            frame = av.VideoFrame.from_ndarray(np.clip(image, 0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = (n, tick) if how.times == "constant" else (at, tick)
            at += 1000 // fps if how.times == "constant" else _step(rng, how.times, fps, n)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if hum is not None:
            _hum(out, hum, count / fps)


def _step(rng: np.random.Generator, times: str, fps: int, n: int) -> int:
    """Milliseconds until the next frame."""
    if times == "vfr":
        return int(rng.choice([1000 // fps, 2000 // fps, 33, 50]))
    return int(rng.uniform(500, 2500)) if n % 11 == 10 else 1000 // fps


def _hum(out: av.container.OutputContainer, stream: av.audio.AudioStream, seconds: float) -> None:
    context = stream.codec_context
    size, kind = context.frame_size or 1152, context.format.name
    for at in range(0, int(seconds * 44100), size):
        wave = np.sin(np.arange(at, at + size) / 20) * 0.1
        data = wave.astype(np.float32) if kind.startswith("flt") else (wave * 32767).astype(np.int16)
        layout = context.layout.nb_channels
        plane = np.tile(data, (layout, 1)) if kind.endswith("p") else np.repeat(data, layout)[None]
        frame = av.AudioFrame.from_ndarray(plane, kind, context.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = 44100, at, Fraction(1, 44100)
        out.mux(stream.encode(frame))
    out.mux(stream.encode())


PICTURES: dict[str, dict[str, object]] = {
    "base.jpg": {"format": "JPEG", "quality": 85},
    "fine.jpg": {"format": "JPEG", "quality": 95, "subsampling": 0, "optimize": True},
    "prog.jpg": {"format": "JPEG", "quality": 80, "progressive": True},
    "rst.jpg": {"format": "JPEG", "quality": 75, "restart_marker_rows": 1},
    "a.png": {"format": "PNG"},
    "lossy.webp": {"format": "WEBP", "quality": 80},
    "lossless.webp": {"format": "WEBP", "lossless": True},
    "alpha.webp": {"format": "WEBP", "quality": 50, "method": 6},
    "a.gif": {"format": "GIF"},
    "rows.gif": {"format": "GIF", "interlace": 0},
    "raw.tif": {"format": "TIFF"},
    "lzw.tif": {"format": "TIFF", "compression": "tiff_lzw"},
    "zip.tif": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    "pred.tif": {"format": "TIFF", "compression": "tiff_lzw", "tiffinfo": {317: 2}},
    "full.avif": {"format": "AVIF", "quality": 90, "subsampling": "4:4:4", "speed": 10},
    "a.avif": {"format": "AVIF", "quality": 70, "speed": 9},
    "a.bmp": {"format": "BMP"},
}


def render_picture(path: Path, how: dict[str, object], show: Show, seed: int) -> None:
    """Write one picture."""
    rng = np.random.default_rng(seed)
    width, height = ((320, 240), (400, 300), (514, 387), (640, 480))[seed % 4]
    image = list(show(rng, 9, height, width))[-1]
    values = np.clip(image, 0, 255).astype(np.uint8)
    if "alpha" in path.name:
        values = np.dstack([values, np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), (height, width))])
    path.write_bytes(saved(values, **how))


# Damage.


def cut(data: bytes, rng: random.Random, share: float) -> bytes:
    """The first part of a file."""
    return data[: int(len(data) * share)]


def flips(data: bytes, rng: random.Random, count: int) -> bytes:
    """Replace bytes after the first 2 % (or 600 bytes) of the file."""
    changed = bytearray(data)
    for _ in range(count):
        changed[_place(data, rng, 1)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def zeros(data: bytes, rng: random.Random, size: int) -> bytes:
    """A block of zeros."""
    at = _place(data, rng, size)
    return data[:at] + bytes(min(size, len(data) - at)) + data[at + size :]


def removed(data: bytes, rng: random.Random, size: int) -> bytes:
    """A block is missing."""
    at = _place(data, rng, size)
    return data[:at] + data[at + size :]


def swapped(data: bytes, rng: random.Random, size: int) -> bytes:
    """Two blocks swapped."""
    a, b = sorted(_place(data, rng, size) for _ in range(2))
    b = max(b, a + size)
    return data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]


def _place(data: bytes, rng: random.Random, size: int) -> int:
    first = min(max(len(data) // 50, 600), len(data) // 4)
    return rng.randrange(first, max(len(data) - size, first + 1))


def dropped(source: Path, path: Path, rng: random.Random, run: int) -> None:
    """The packets of a video in a new file, without some that follow each other."""
    with av.open(str(source)) as read, av.open(str(path), "w") as out:
        stream = read.streams.video[0]
        copy = out.add_stream_from_template(stream)
        packets = [packet for packet in read.demux(stream) if packet.size]
        first = rng.randrange(1, max(len(packets) - run, 2))
        for n, packet in enumerate(packets):
            if not first <= n < first + run:
                packet.stream = copy
                out.mux(packet)


CUTS = {"cut 10 %": 0.1, "cut 50 %": 0.5, "cut 90 %": 0.9}
CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "1 flip": lambda data, rng: flips(data, rng, 1),
    "8 flips": lambda data, rng: flips(data, rng, 8),
    "zeroed": lambda data, rng: zeros(data, rng, max(len(data) // 20, 64)),
    "removed": lambda data, rng: removed(data, rng, max(len(data) // 20, 64)),
    "swapped": lambda data, rng: swapped(data, rng, max(len(data) // 20, 64)),
}


def saved(image: Pictures, **how: object) -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, **how)  # type: ignore[arg-type]
    return buffer.getvalue()
