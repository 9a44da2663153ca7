"""Odd picture files, written with Pillow: profiles, depths, orientations, animations."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

EXIF_ORIENTATION = 0x0112
_TURNED = {  # what undoes each orientation's way of showing, so that the file stores it turned
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_TO_XYZ = {  # columns red, green, blue under D50, as profiles have them (ICC.1:2010, annex E)
    "p3": ((0.51512, 0.29198, 0.15710), (0.24120, 0.69225, 0.06657), (-0.00105, 0.04189, 0.78407)),
    "adobe": ((0.60974, 0.20528, 0.14919), (0.31111, 0.62567, 0.06322), (0.01947, 0.06087, 0.74457)),
    "srgb": ((0.43607, 0.38515, 0.14307), (0.22249, 0.71687, 0.06061), (0.01392, 0.09708, 0.71410)),
}


def profile(name, space=b"RGB "):
    """A matrix profile (ICC version 2): `p3` with sRGB's curve, `adobe` with gamma 2.2; `grey` with gamma 1.8."""
    if space == b"GRAY":
        tags = {b"wtpt": _xyz((0.9642, 1, 0.8249)), b"kTRC": _curve(1.8)}
    else:
        columns = zip(*_TO_XYZ[name], strict=True)
        tags = {key: _xyz(column) for key, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
        curve = _curve(2.2) if name == "adobe" else _srgb_curve()
        tags |= {b"wtpt": _xyz((0.9642, 1, 0.8249)), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    text = name.encode() + b"\0"
    tags[b"desc"] = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    tags[b"cprt"] = b"text" + bytes(4) + b"none\0"
    table, data, at = b"", b"", 128 + 4 + 12 * len(tags)
    for key, value in tags.items():
        table += struct.pack(">4sII", key, at + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    size = at + len(data)
    header = struct.pack(">I4sI4s4s4s12s4s", size, b"test", 0x02100000, b"mntr", space, b"XYZ ", bytes(12), b"acsp")
    header = header.ljust(68, b"\0") + struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def _xyz(values):
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(gamma):
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def _srgb_curve():
    value = np.arange(1024) / 1023
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return b"curv" + bytes(4) + struct.pack(">I", 1024) + np.round(light * 65535).astype(">u2").tobytes()


def in_profile(image, name):
    """An sRGB image's values in the colours of a profile."""
    value = image.astype(float) / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    light = np.clip(light @ (np.linalg.inv(np.array(_TO_XYZ[name])) @ np.array(_TO_XYZ["srgb"])).T, 0, 1)
    if name == "adobe":
        stored = light ** (1 / (563 / 256))
    else:
        stored = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(stored * 255).astype(np.uint8)


def turned(image, orientation):
    """(the picture as it is stored, EXIF that says how it is shown)."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    how = _TURNED[orientation]
    return (Image.fromarray(image) if how is None else Image.fromarray(image).transpose(how)), exif


def png(values, *, depth=8, colour=2, chunks=()):
    """A PNG of [H, W, C] values of 8 or 16 bits, with further chunks [(kind, data)] before its pixels."""
    height, width = values.shape[:2]
    rows = values.astype(">u2" if depth == 16 else "u1").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def animation(path, images, stays_ms, **how):
    """An animation in the format of the path's ending."""
    first, *others = (Image.fromarray(image) for image in images)
    first.save(path, save_all=True, append_images=others, duration=stays_ms, loop=0, **how)
    return path


def saved(image, **how):
    """A picture's file as bytes."""
    buffer = io.BytesIO()
    image.save(buffer, **how)
    return buffer.getvalue()
