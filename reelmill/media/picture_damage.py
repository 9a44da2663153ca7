"""Damage of pictures that Pillow does not tell of: libjpeg's warnings, checksums, sizes, ends that come too soon."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, TiffImagePlugin

from reelmill.media import picture_ends

_MODES = {"RGB": "RGB", "L": "GRAY"}
_CORRUPT = ("Corrupt JPEG data", "Premature end of JPEG")
"""How libjpeg's warnings of damaged bytes begin; others are about habits of writers."""
_CHUNK = 1 << 20


def complaints(stream: BinaryIO, size: int, file: Image.Image, is_animation: bool) -> list[str]:
    """What is wrong with the `size` bytes of a picture that Pillow has opened as `file`.

    Of an animation only its first frame's codes and its file's sizes are looked at.
    """
    kind = file.format or ""
    if kind == "PNG":
        return _png(stream)
    found = _end(stream, size, kind)
    stream.seek(0)
    if kind == "GIF":
        found += picture_ends.gif(stream)
    elif isinstance(file, TiffImagePlugin.TiffImageFile):
        found += picture_ends.tiff(stream, file)
    elif kind == "WEBP" and not is_animation:
        found += picture_ends.webp(stream, file.size)
    elif kind == "AVIF" and not is_animation:
        found += picture_ends.avif(stream)
    return found


def decode_jpeg(data: bytes, expected: Image.Image) -> tuple[npt.NDArray[np.uint8] | None, list[str]]:
    """(pixels as Pillow gives them, what libjpeg warns of) of a JPEG that Pillow has opened as `expected`.

    The decoder is libjpeg-turbo as Pillow's is, told to stop at the first warning: a sound file is decoded once. No
    pixels where it stops, and for kinds of JPEG that it is not asked for; Pillow decodes those.
    """
    if expected.mode not in _MODES:
        return None, []
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        if (width, height) != expected.size:  # Pillow's header was checked against the limits
            return None, []
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, _MODES[expected.mode])
    except ValueError as error:
        words = str(error)
        return None, [f"jpeg: {words}"] if words.startswith(_CORRUPT) else []
    return pixels if pixels.shape[2] > 1 else pixels[..., 0], []


def _png(stream: BinaryIO) -> list[str]:
    """Each chunk's CRC-32 (PNG third edition, section 5.3), up to the last one. Pillow leaves out those of pixels."""
    found = []
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        checksum, left = zlib.crc32(kind), length
        while left and (data := stream.read(min(left, _CHUNK))):
            checksum, left = zlib.crc32(data, checksum), left - len(data)
        declared = stream.read(4)
        if len(declared) < 4:
            break
        if checksum != int.from_bytes(declared, "big"):
            found.append(f"png: the checksum of a chunk {kind.decode('ascii', 'replace')} is wrong")
        if kind == b"IEND":
            return found
    return [*found, "png: the end is missing"]


def _end(stream: BinaryIO, size: int, kind: str) -> list[str]:
    """Sizes that a file declares, and marks of its end."""
    stream.seek(0)
    head = stream.read(12)
    declared = 0
    if kind == "WEBP":
        declared = struct.unpack_from("<I", head, 4)[0] + 8
    elif kind == "BMP":
        declared = struct.unpack_from("<I", head, 2)[0]
    elif kind == "GIF":
        stream.seek(max(size - 64, 0))
        if not stream.read().rstrip(b"\0").endswith(b";"):
            return ["gif: the end is missing"]
    return [f"{kind.lower()}: {declared - size} bytes are missing"] if declared > size else []
