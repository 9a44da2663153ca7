"""The pictures and videos that a tokenizer is trained on: where they lie, decoded on demand, kept in bounded memory."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import tarfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError

PICTURES = {".jpg", ".jpeg", ".png", ".webp"}
VIDEOS = {".mp4": "mov", ".mov": "mov", ".webm": "matroska", ".mkv": "matroska", ".avi": "avi", ".ogv": "ogg"}
"""Endings, and the demuxer that is forced: one chosen by content could be a playlist's, which opens other files."""
SEGMENT = 96
"""Frames of a video that are decoded and kept together."""

Frames = npt.NDArray[np.uint8]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A picture or a video: a file, or bytes [offset, offset + size) of an uncompressed tar.

    Of a video, `start_s` and `end_s` bound the part that may be used (seconds; None: all of it). `video` says what it
    is where the name's ending does not.
    """

    path: Path
    offset: int = 0
    size: int | None = None
    name: str = ""
    start_s: float = 0.0
    end_s: float | None = None
    video: bool | None = None

    @property
    def is_video(self) -> bool:
        """As said, else by the name's ending."""
        if self.video is not None:
            return self.video
        return Path(self.name or self.path.name).suffix.lower() in VIDEOS

    @property
    def demuxer(self) -> str:
        """By the name's ending; DataError for one that is no video's."""
        suffix = Path(self.name or self.path.name).suffix.lower()
        if suffix not in VIDEOS:
            raise DataError(f"{self.path} {self.name}: {suffix!r} is none of {', '.join(VIDEOS)}; leave it out")
        return VIDEOS[suffix]

    def open(self) -> IO[bytes]:
        """The bytes."""
        if self.size is None:
            return self.path.open("rb")
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            return io.BytesIO(stream.read(self.size))


def find(folders: Sequence[Path]) -> list[Source]:
    """Every picture and video under the folders and inside their tars (WebDataset), sorted; links are left out.

    Raises DataError when a folder is missing.
    """
    found: list[Source] = []
    for folder in folders:
        if not folder.exists():
            raise DataError(f"there is no {folder}; give folders of pictures, videos or WebDataset tars")
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.is_symlink() or not path.is_file():
                continue
            if path.suffix.lower() == ".tar":
                found += _members(path)
            elif path.suffix.lower() in PICTURES | VIDEOS.keys():
                found.append(Source(path))
    return found


def _members(path: Path) -> Iterator[Source]:
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if member.isfile() and Path(member.name).suffix.lower() in PICTURES | VIDEOS.keys():
                yield Source(path, member.offset_data, member.size, member.name)


def read_picture(source: Source, short_side: int) -> Frames:
    """[1, H, W, 3] RGB of a picture, transparency over grey, shrunk to `short_side`."""
    from PIL import Image

    with source.open() as stream, Image.open(stream) as opened:
        opened.draft("RGB", (short_side * 2, short_side * 2))
        picture = opened.convert("RGBA") if "A" in opened.getbands() else opened.convert("RGB")
    if picture.mode == "RGBA":
        backdrop = Image.new("RGBA", picture.size, (128, 128, 128, 255))
        picture = Image.alpha_composite(backdrop, picture).convert("RGB")
    scale = short_side / min(picture.size)
    if scale < 1:
        picture = picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.LANCZOS)
    return np.asarray(picture)[None]


def read_video(source: Source, short_side: int, start_s: float = 0.0, limit: int = SEGMENT) -> Frames:
    """[T, H, W, 3] RGB: the `limit` frames from `start_s` on, at their native rate, shrunk to `short_side`."""
    import av

    frames: list[Frames] = []
    with source.open() as stream, av.open(stream, "r", format=source.demuxer) as container:
        if not container.streams.video:
            raise DataError(f"{source.path} {source.name} has no video stream; leave it out")
        video = container.streams.video[0]
        if start_s > 0 and video.time_base:
            container.seek(int(start_s / video.time_base), stream=video)
        scale = min(1.0, short_side / min(video.width, video.height))
        width, height = round(video.width * scale), round(video.height * scale)
        for frame in container.decode(video):
            if frame.time is not None and frame.time < start_s - 1e-3:
                continue
            if source.end_s is not None and frame.time is not None and frame.time >= source.end_s:
                break
            shrunk = frame.reformat(width, height, "rgb24", interpolation="AREA")
            frames.append(shrunk.to_ndarray().astype(np.uint8, copy=False))
            if len(frames) == limit:
                break
    return np.stack(frames) if frames else np.empty((0, height, width, 3), dtype=np.uint8)


def frames_at(source: Source, fps: float, short_side: int, seconds: float = math.inf) -> Iterator[Frames]:
    """The first `seconds` of a video at `fps`: each [H, W, 3] RGB, shrunk to `short_side`, decoded as it is asked for.

    At each k/fps the frame that is then on screen; nothing is enlarged. Raises DataError where there is no picture.
    """
    import av

    end_s = math.inf if source.end_s is None else source.end_s
    seconds = min(seconds, end_s - source.start_s)
    wanted = math.inf if math.isinf(seconds) else round(fps * seconds)
    with source.open() as stream, av.open(stream, "r", format=source.demuxer) as container:
        if not container.streams.video:
            raise DataError(f"{source.path} {source.name} has no video stream; leave it out")
        video = container.streams.video[0]
        scale = min(1.0, short_side / min(video.width, video.height))
        width, height = round(video.width * scale), round(video.height * scale)
        if source.start_s > 0 and video.time_base:
            container.seek(int(source.start_s / video.time_base), stream=video)
        begin, shown = None, 0
        for frame, until in _on_screen(container.decode(video), float(video.average_rate or fps)):
            begin = max(source.start_s, frame.time or 0.0) if begin is None else begin
            while shown < wanted and begin + shown / fps < until - 1e-6:
                shown += 1
                yield frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()
            if shown >= wanted:
                return


def _on_screen(frames: Iterable[Any], rate: float) -> Iterator[tuple[Any, float]]:
    """Decoded frames, each with the time in seconds until which it is on screen."""
    last = None
    for frame in frames:
        if last is not None:
            yield last, frame.time or 0.0
        last = frame
    if last is not None:
        yield last, (last.time or 0.0) + 1 / rate


def duration_s(source: Source) -> tuple[float, float]:
    """(seconds, frames/s) that a video declares; DataError where it declares none or has no picture."""
    import av

    with source.open() as stream, av.open(stream, "r", format=source.demuxer) as container:
        if not container.streams.video:
            raise DataError(f"{source.path} {source.name} has no video stream; leave it out")
        video: Any = container.streams.video[0]
        rate = float(video.average_rate or 0)
        seconds = float(video.duration * video.time_base) if video.duration else (container.duration or 0) / 1e6
    if not rate or not seconds:
        raise DataError(f"{source.path} {source.name} declares no frame rate or duration; remux or leave it out")
    return (source.end_s or seconds) - source.start_s, rate


class Library:
    """Decoded pictures and video segments, the longest unused dropped when they exceed `cache_bytes`."""

    def __init__(self, short_side: int, cache_bytes: int) -> None:
        self.short_side = short_side
        self.cache_bytes = cache_bytes
        self._kept: OrderedDict[tuple[Source, float], Frames] = OrderedDict()
        self._bytes = 0

    def frames(self, source: Source, start_s: float = 0.0) -> Frames:
        """[T, H, W, 3]: a picture (T 1), or the segment of a video that begins at `start_s`. Unreadable: T 0."""
        key = (source, start_s)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        read = self._read(source, start_s)
        self._kept[key] = read
        self._bytes += read.nbytes
        while self._bytes > self.cache_bytes and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return read

    def _read(self, source: Source, start_s: float) -> Frames:
        import av

        try:
            if source.is_video:
                return read_video(source, self.short_side, start_s)
            return read_picture(source, self.short_side)
        # A damaged file among millions must not end a run of days: it is named once, and never drawn again.
        except (OSError, ValueError, av.FFmpegError, DataError) as error:
            log.warning("unreadable, left out: %s %s (%s)", source.path, source.name, error)
            return np.empty((0, 1, 1, 3), dtype=np.uint8)


def fingerprint(sources: Sequence[Source]) -> str:
    """Hex digest of what is trained on: names, sizes and spans."""
    digest = hashlib.blake2b(digest_size=16)
    for s in sources:
        size = s.size if s.size is not None else s.path.stat().st_size
        digest.update(f"{s.path.name} {s.name} {size} {s.start_s} {s.end_s}\n".encode())
    return digest.hexdigest()
