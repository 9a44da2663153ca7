"""Kinds of files, by the ending of their name and by their first bytes. Imports no decoder."""

from __future__ import annotations

from typing import Literal

from reelmill.media.containers import HEAD, is_video
from reelmill.media.source import Source

Kind = Literal["video", "image"]

_VIDEOS = ".mp4 .m4v .mov .mkv .webm .avi .flv .ogv .wmv .asf .mpg .mpeg .m2v .vob .ts .m2ts .mts .3gp .mxf .dv .ivf"
_SOUNDS = ".wav .mp3 .flac .m4a .aac .ogg .oga .opus .wma .aif .aiff .amr .caf .wv .mka"
_PICTURES = ".jpg .jpeg .png .webp .gif .bmp .tif .tiff .avif"
VIDEO_SUFFIXES = frozenset(_VIDEOS.split())
IMAGE_SUFFIXES = frozenset(_PICTURES.split())
AUDIO_SUFFIXES = frozenset(_SOUNDS.split())
"""Files with sound alone."""

_IMAGES: tuple[tuple[int, bytes], ...] = (
    (0, b"\xff\xd8\xff"),
    (0, b"\x89PNG\r\n\x1a\n"),
    (8, b"WEBP"),
    (0, b"GIF8"),
    (0, b"BM"),
    (0, b"II*\0"),
    (0, b"MM\0*"),
    (4, b"ftypavif"),
    (4, b"ftypavis"),
)


def kind_of(source: Source) -> Kind | None:
    """What a file is by its first bytes; None for what is neither."""
    with source.open() as stream:
        head = stream.read(HEAD)
    if any(head[at : at + len(magic)] == magic for at, magic in _IMAGES):
        return "image"
    return "video" if is_video(head) else None
