"""Kinds of files, by the ending of their name and by their first bytes. Imports no decoder."""

from __future__ import annotations

from typing import Literal

from reelmill.media.containers import HEAD, demuxer_of
from reelmill.media.source import Source

Kind = Literal["video", "image"]

_VIDEOS = """.mp4 .m4v .mov .qt .3gp .3g2 .f4v .mkv .webm .avi .divx .flv .ogv .ogm .wmv .asf .mpg .mpeg .mpe .m1v .m2v
.vob .ts .m2ts .mts .mxf .gxf .wtv .nut .rm .rmvb .ivf .dv .y4m .h264 .264 .h265 .265 .hevc .obu"""
_SOUNDS = ".wav .mp3 .flac .m4a .aac .ogg .oga .opus .wma .aif .aiff .amr .caf .wv .mka"
_PICTURES = ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .tif .tiff .avif"
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
    (0, b"II+\0", ".tif"),
    (0, b"MM\0+", ".tif"),
    (8, b"WAVE", ".wav"),
    (0, b"fLaC", ".flac"),
    (0, b"ID3", ".mp3"),
    (0, b"\xff\xfb", ".mp3"),
)
_DEMUXED = {"mov": ".mp4", "matroska": ".mkv", "mpegts": ".ts", "mpeg": ".mpg", "ogg": ".ogv", "asf": ".asf"}
_UNREAD: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftypcrx", "a camera's raw file"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (4, b"jP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xffO\xffQ", "JPEG 2000"),
    (4, b"JXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\n", "JPEG XL"),
    (0, b"8BPS", "a document of Photoshop's"),
    (0, b"\0\0\1\0", "icons"),
    (0, b"FUJIFILM", "a camera's raw file"),
    (0, b"IIR", "a camera's raw file"),
    (0, b"IIU\0", "a camera's raw file"),
    (0, b"%PDF", "PDF"),
    (0, b"PK\3\4", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
)
_AVIF = frozenset((b"avif", b"avis"))
_PORTABLE = tuple(b"P%d%c" % (kind, space) for kind in range(1, 8) for space in b" \n")


def kind_of(source: Source) -> Kind | None:
    """What a file is by its first bytes; None for what is neither."""
    with source.open() as stream:
        head = stream.read(HEAD)
    if is_image(head):
        return "image"
    return "video" if suffix_of(head) in VIDEO_SUFFIXES else None


def is_image(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a format of pictures that is read."""
    return suffix_of(head) in IMAGE_SUFFIXES


def suffix_of(head: bytes) -> str | None:
    """The usual ending of a file's name, by its first bytes (HEAD of them); None for no picture, video or sound.

    A container of video may hold sound alone: that is known when it is opened.
    """
    if head[4:8] == b"ftyp" and _AVIF & {head[at : at + 4] for at in (8, *range(16, min(_ftyp_end(head), HEAD), 4))}:
        return ".avif"
    for at, magic, suffix in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return suffix
    name = demuxer_of(head)
    return _DEMUXED.get(name, ".avi") if name else None


def described(head: bytes) -> str:
    """What a file that is no picture is, by its first bytes, as a person would name it."""
    for at, magic, name in _UNREAD:
        if head[at : at + len(magic)] == magic:
            return name
    if suffix_of(head) in VIDEO_SUFFIXES:
        return "a video"
    if head.startswith(_PORTABLE):
        return "a portable bitmap (PNM)"
    if not any(head[:64]):
        return "an empty file" if not head else "a file of zeros"
    if head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"<", b"{", b"["):
        return "text, such as a page of the web"
    return f"a file that begins with {head[:12]!r}"


def _ftyp_end(head: bytes) -> int:
    return int.from_bytes(head[:4], "big")
