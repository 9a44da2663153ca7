"""What a file states of its rights: licence and copyright in XMP, EXIF, IPTC and PNG's texts, and whether it carries
C2PA's content credentials. Runs in the untrusted child; everything is read within bounds, and nothing is verified.
"""

from __future__ import annotations

import html
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image, ImageFile, IptcImagePlugin

from reelmill.media.source import Source

MAX_TEXT = 500
"""Characters of a statement."""
MAX_XMP = 256 * 1024
_MAX_PARTS = 10_000
"""Segments, chunks or boxes of a file that are looked at."""
_C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""The UUID of C2PA's box in MP4, MOV and AVIF (C2PA specification, "Embedding manifests into BMFF-based assets")."""
_LICENCE = ("cc:license", "xmpRights:WebStatement", "dcterms:license", "xmpRights:UsageTerms")
_COPYRIGHT = ("dc:rights", "photoshop:Copyright")
_EXIF_COPYRIGHT, _IPTC_COPYRIGHT = 0x8298, (2, 116)


@dataclass(frozen=True)
class Rights:
    """Statements of at most MAX_TEXT characters; None where the file has none."""

    stated_licence: str | None = None
    copyright: str | None = None
    c2pa: bool = False


def image_rights(file: Image.Image, source: Source) -> Rights:
    """Of an image file whose header Pillow has read. Blocks that are broken state nothing."""
    xmp = _xmp(file)
    texts = {name.lower(): value for name, value in file.info.items() if isinstance(name, str)}
    licence = [*(_property(xmp, name) for name in _LICENCE), texts.get("license"), texts.get("licence")]
    claims = [*(_property(xmp, name) for name in _COPYRIGHT), _exif(file), _iptc(file), texts.get("copyright")]
    return Rights(_first(licence), _first(claims), has_c2pa(source))


def video_rights(metadata: Mapping[str, str], source: Source) -> Rights:
    """Of a video, by what its container says of itself."""
    texts = {name.lower(): value for name, value in metadata.items()}
    return Rights(
        _first([texts.get("license"), texts.get("licence")]), _first([texts.get("copyright")]), has_c2pa(source)
    )


def has_c2pa(source: Source) -> bool:
    """Whether a JPEG, PNG, WebP, MP4, MOV or AVIF carries a C2PA manifest."""
    with source.open() as stream:
        head = stream.read(12)
        stream.seek(0)
        if head.startswith(b"\xff\xd8"):
            return any(kind == 0xEB and b"c2pa" in start for kind, start in _segments(stream))
        if head.startswith(b"\x89PNG"):
            return b"caBX" in _chunks(stream, 8, ">I4s", 4)
        if head[:4] == b"RIFF" and head[8:] == b"WEBP":
            return b"C2PA" in _chunks(stream, 12, "<4sI", 0)
        if head[4:8] == b"ftyp":
            return any(kind == b"uuid" and start.startswith(_C2PA_BOX) for kind, start in _boxes(stream, source.size))
    return False


def _segments(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """A JPEG's segments before its pixels: the marker's second byte, the first bytes."""
    stream.seek(2)
    for _ in range(_MAX_PARTS):
        head = stream.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] == 0xDA:
            return
        size = struct.unpack(">H", head[2:])[0] - 2
        if size < 0:
            return
        data = stream.read(size)
        yield head[1], data[:64]


def _chunks(stream: BinaryIO, first: int, layout: str, trailer: int) -> set[bytes]:
    """Names of the chunks of a PNG or RIFF."""
    names, at = set(), first
    for _ in range(_MAX_PARTS):
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            break
        one, other = struct.unpack(layout, head)
        name, size = (other, one) if isinstance(one, int) else (one, other)
        names.add(name)
        at += 8 + size + trailer + (size % 2 if trailer == 0 else 0)
    return names


def _boxes(stream: BinaryIO, size: int) -> Iterator[tuple[bytes, bytes]]:
    """An ISO file's outermost boxes: their kind and first bytes."""
    at = 0
    for _ in range(_MAX_PARTS):
        stream.seek(at)
        head = stream.read(16)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head[:8])
        begins = 8
        if length == 1 and len(head) == 16:
            length, begins = struct.unpack(">Q", head[8:])[0], 16
        stream.seek(at + begins)
        yield kind, stream.read(16)
        if length < begins or at + length >= size:
            return
        at += length


def _xmp(file: Image.Image) -> str:
    data = file.info.get("xmp") or file.info.get("XML:com.adobe.xmp") or b""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data)
    return text[:MAX_XMP]


def _property(xmp: str, name: str) -> str | None:
    """A property's value: an attribute, a reference, or the words inside its element (of the first language)."""
    for pattern in (
        rf'\b{name}\s{{0,9}}=\s{{0,9}}["\']([^"\']{{1,2000}})["\']',
        rf'<{name}\b[^>]{{0,500}}\brdf:resource\s{{0,9}}=\s{{0,9}}["\']([^"\']{{1,2000}})["\']',
        rf"<{name}\b[^>]{{0,500}}>([\s\S]{{0,4000}}?)</{name}>",
    ):
        if found := re.search(pattern, xmp):
            return html.unescape(re.sub(r"<[^<>]{0,500}>", " ", found.group(1)))
    return None


def _exif(file: Image.Image) -> str | None:
    try:
        found = file.getexif().get(_EXIF_COPYRIGHT)
    except Exception:  # Pillow's readers raise many things for a block that is broken: it states nothing
        return None
    return found if isinstance(found, str) else None


def _iptc(file: Image.Image) -> str | None:
    if not isinstance(file, ImageFile.ImageFile):
        return None
    try:
        found = (IptcImagePlugin.getiptcinfo(file) or {}).get(_IPTC_COPYRIGHT)
    except Exception:  # likewise
        return None
    data = found[0] if isinstance(found, list) and found else found
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else None


def _first(values: list[object]) -> str | None:
    """The first that says something, in one line."""
    for value in values:
        if isinstance(value, str) and (line := " ".join(value.replace("\0", " ").split())[:MAX_TEXT]):
            return line
    return None
