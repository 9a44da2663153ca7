"""Kinds of files, by the ending of their name and by their first bytes. Imports no decoder."""

from __future__ import annotations

from typing import Literal

from reelmill.media.containers import HEAD, demuxer_of
from reelmill.media.source import Source

Kind = Literal["video", "image"]

_VIDEOS = ".mp4 .m4v .mov .mkv .webm .avi .flv .ogv .wmv .asf .mpg .mpeg .m2v .vob .ts .m2ts .mts .3gp .mxf .dv .ivf"
_SOUNDS = ".wav .mp3 .flac .m4a .aac .ogg .oga .opus .wma .aif .aiff .amr .caf .wv .mka"
_PICTURES = ".jpg .jpeg .png .webp .gif .bmp .tif .tiff .avif"
VIDEO_SUFFIXES = frozenset(_VIDEOS.split())
IMAGE_SUFFIXES = frozenset(_PICTURES.split())
AUDIO_SUFFIXES = frozenset(_SOUNDS.split())
"""Files with sound alone."""

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"\x89PNG\r\n\x1a\n", ".png"),
    (8, b"WEBP", ".webp"),
    (0, b"GIF8", ".gif"),
    (0, b"BM", ".bmp"),
    (0, b"II*\0", ".tif"),
    (0, b"MM\0*", ".tif"),
    (4, b"ftypavif", ".avif"),
    (4, b"ftypavis", ".avif"),
    (8, b"WAVE", ".wav"),
    (0, b"fLaC", ".flac"),
    (0, b"ID3", ".mp3"),
    (0, b"\xff\xfb", ".mp3"),
)
_DEMUXED = {"mov": ".mp4", "matroska": ".mkv", "mpegts": ".ts", "mpeg": ".mpg", "ogg": ".ogv", "asf": ".asf"}


def kind_of(source: Source) -> Kind | None:
    """What a file is by its first bytes; None for what is neither."""
    with source.open() as stream:
        suffix = suffix_of(stream.read(HEAD))
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else None


def suffix_of(head: bytes) -> str | None:
    """The usual ending of a file's name, by its first bytes (HEAD of them); None for no picture, video or sound.

    A container of video may hold sound alone: that is known when it is opened.
    """
    for at, magic, suffix in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return suffix
    name = demuxer_of(head)
    return _DEMUXED.get(name, ".avi") if name else None
