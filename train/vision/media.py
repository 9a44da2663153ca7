"""The pictures and videos that a tokenizer is trained on: where they lie, decoded on demand, kept in bounded memory."""

from __future__ import annotations

import hashlib
import logging
import math
import tarfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError, MachineError
from reelmill.media.kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES, kind_of
from reelmill.media.reader import MediaReader
from reelmill.media.source import Place, Source, place_of

SEGMENT = 96
"""Frames of a video that are decoded and kept together."""

Frames = npt.NDArray[np.uint8]
log = logging.getLogger(__name__)
_reader = MediaReader()
"""Decodes in a child of this process, which starts with the first file."""


@dataclass(frozen=True)
class MediaFile:
    """A picture or a video: a file, bytes [offset, offset + size) of one, or a member of an archive.

    Of a video, `start_s` and `end_s` bound the part that may be used (seconds from its first frame; None: all of it).
    `video` says what it is where the name's ending does not.
    """

    path: Path
    offset: int = 0
    size: int | None = None
    name: str = ""
    start_s: float = 0.0
    end_s: float | None = None
    video: bool | None = None
    member: int | None = None

    @property
    def is_video(self) -> bool:
        """As said, else by the name's ending."""
        if self.video is not None:
            return self.video
        return Path(self.name or self.path.name).suffix.lower() in VIDEO_SUFFIXES

    def place(self) -> Place:
        """Where the bytes are. DataError for a file that is not there."""
        if self.size is not None:
            return place_of(str(self.path), self.offset, self.size, self.member)
        return self.bytes()

    def bytes(self) -> Source:
        """The same of what is no member of an archive."""
        if self.size is not None:
            return Source(str(self.path), self.offset, self.size)
        if not self.path.is_file():
            raise DataError(f"there is no {self.path}; give a picture or a video")
        return Source(str(self.path), 0, self.path.stat().st_size)


def media_file(path: Path) -> MediaFile:
    """A file, which is a video or a picture by its first bytes. DataError for one that is neither, or not there."""
    kind = kind_of(MediaFile(path).bytes())
    if kind is None:
        raise DataError(f"{path} is neither a picture nor a video that is read; see docs/media.md")
    return MediaFile(path, video=kind == "video")


def find(folders: Sequence[Path]) -> list[MediaFile]:
    """Every picture and video under the folders and inside their tars (WebDataset), sorted; links are left out.

    A file is taken by its name's ending, when its first bytes agree. Raises DataError when a folder is missing.
    """
    found: list[MediaFile] = []
    for folder in folders:
        if not folder.exists():
            raise DataError(f"there is no {folder}; give folders of pictures, videos or WebDataset tars")
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.is_symlink() or not path.is_file():
                continue
            if path.suffix.lower() == ".tar":
                found += filter(_is_media, _members(path))
            elif path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and _is_media(source := MediaFile(path)):
                found.append(source)
    return found


def _members(path: Path) -> Iterator[MediaFile]:
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
                yield MediaFile(path, member.offset_data, member.size, member.name)


def _is_media(source: MediaFile) -> bool:
    return kind_of(source.bytes()) == ("video" if source.is_video else "image")


def read_picture(source: MediaFile, short_side: int) -> Frames:
    """[1, H, W, 3] RGB of a picture, transparency over white, shrunk to `short_side`. Raises DataError."""
    return _reader.picture(source.place(), short_side)


def read_video(source: MediaFile, short_side: int, start_s: float = 0.0, limit: int = SEGMENT) -> Frames:
    """[T, H, W, 3] RGB: the `limit` frames from `start_s` on, at their native rate, shrunk to `short_side`."""
    return _reader.every_frame(source.place(), short_side, start_s, source.end_s, limit)


def frames_at(source: MediaFile, fps: float, short_side: int, seconds: float = math.inf) -> Iterator[Frames]:
    """The first `seconds` of a video at `fps`: each [H, W, 3] RGB, shrunk to `short_side`, decoded as it is asked for.

    At each k/fps the frame that is then on screen; nothing is enlarged. Raises DataError where there is no picture.
    """
    end_s = math.inf if source.end_s is None else source.end_s
    seconds = min(seconds, end_s - source.start_s)
    return _reader.frames_at(source.place(), fps, short_side, source.start_s, seconds)


def duration_s(source: MediaFile) -> tuple[float, float]:
    """(seconds, frames/s) that a video declares; DataError where it declares none or has no picture."""
    seconds, rate = _reader.length(source.place())
    if source.end_s is None and not seconds:
        raise DataError(f"{source.path} {source.name} declares no duration; remux or leave it out")
    return (source.end_s or seconds) - source.start_s, rate


class MediaCache:
    """Decoded pictures and video segments, the longest unused dropped when they exceed `cache_bytes`."""

    def __init__(self, short_side: int, cache_bytes: int) -> None:
        self.short_side = short_side
        self.cache_bytes = cache_bytes
        self._kept: OrderedDict[tuple[MediaFile, float], Frames] = OrderedDict()
        self._bytes = 0

    def frames(self, source: MediaFile, start_s: float = 0.0) -> Frames:
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

    def _read(self, source: MediaFile, start_s: float) -> Frames:
        try:
            if source.is_video:
                return read_video(source, self.short_side, start_s)
            return read_picture(source, self.short_side)
        # A damaged file among millions must not end a run of days: it is named once, and never drawn again.
        except (DataError, MachineError) as error:
            log.warning("unreadable, left out: %s %s (%s)", source.path, source.name, error)
            return np.empty((0, 1, 1, 3), dtype=np.uint8)


def fingerprint(sources: Sequence[MediaFile]) -> str:
    """Hex digest of what is trained on: names, sizes and spans."""
    digest = hashlib.blake2b(digest_size=16)
    for s in sources:
        size = s.size if s.size is not None else s.path.stat().st_size
        digest.update(f"{s.path.name} {s.name} {size} {s.start_s} {s.end_s}\n".encode())
    return digest.hexdigest()
