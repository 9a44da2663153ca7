"""The rendered images: each one's file format or fault, and its facts."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from reelmill.pipelines.sampledump import landscapes as land
from reelmill.pipelines.sampledump import mills, things
from reelmill.pipelines.sampledump.effects import draw_text
from reelmill.pipelines.sampledump.encode import cut_short
from reelmill.pipelines.sampledump.facts import ItemFact, Rule, SampleFact, Side
from reelmill.pipelines.sampledump.paint import Picture, polygon, turned
from reelmill.pipelines.sampledump.videos import TAR

_ORIENTATION = 0x0112
_SHOWN_TURNED_CLOCKWISE = 6
_BOMB_SIDE = 60_000


@dataclass(frozen=True)
class Still:
    """A rendered image. `data` makes its file; `rule` rejects it; `refusal` says why it cannot be read."""

    uri: str
    width: int
    height: int
    data: Callable[[], bytes]
    caption: str = ""
    rule: Rule | None = None
    refusal: str = ""

    def fact(self) -> ItemFact:
        """What is known about it."""
        if self.refusal:
            return ItemFact(self.uri, "image", "refused", self.refusal, caption=self.caption)
        side: Side | None = None if self.rule is None else ("high" if self.rule == "text" else "low")
        samples = (SampleFact(0.0, 0.0, self.rule, side),)
        return ItemFact(self.uri, "image", width=self.width, height=self.height, samples=samples, caption=self.caption)


def saved(picture: Picture | Image.Image, kind: str, **options: Any) -> bytes:
    """An image file of `kind` (a format name of Pillow)."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    out = io.BytesIO()
    image.save(out, format=kind, **options)
    return out.getvalue()


def _windmill() -> bytes:
    return saved(mills.windmill(640, 480, land.AUTUMN, seed=401)(1.3), "JPEG", quality=88)


def _village() -> bytes:
    return saved(things.snow(720, 480, seed=402)(2.0), "WEBP", quality=82)


def _turned_balloon() -> bytes:
    """Stored lying on its side, as a phone does, with the EXIF tag that says so."""
    upright = things.balloon(540, 720, seed=403)(1.5)
    exif = Image.Exif()
    exif[_ORIENTATION] = _SHOWN_TURNED_CLOCKWISE
    return saved(np.ascontiguousarray(np.rot90(upright)), "JPEG", quality=86, exif=exif)


def _printed_wheel() -> bytes:
    wheel = mills.waterwheel(640, 512, seed=404)(0.4)
    return saved(Image.fromarray(wheel).convert("CMYK"), "JPEG", quality=88)


def _cut_out_star() -> bytes:
    """Colored rays on a transparent ground."""
    rays = np.zeros((600, 600, 4), np.uint8)
    for place in range(12):
        colour = ((214, 48, 44), (240, 150, 40), (60, 120, 206))[place % 3]
        ray = turned([(60.0, 0.0), (150.0, -44.0), (280.0, 0.0), (150.0, 44.0)], place * np.pi / 6, (300.0, 300.0))
        shape = np.zeros((600, 600, 3), np.uint8)
        polygon(shape, ray, (255, 255, 255))
        cover = shape[..., :1] > 0
        rays = np.where(cover, np.concatenate([np.full_like(shape, colour), shape[..., :1]], axis=2), rays)
    return saved(Image.fromarray(rays), "PNG", optimize=True)


def _thumbnail() -> bytes:
    return saved(land.valley(240, 160, land.NOON, seed=405)(0.0), "JPEG", quality=85)


def _fog() -> bytes:
    return saved(Image.fromarray(land.valley(640, 480, land.DAWN, seed=406)(0.0)).convert("L"), "JPEG", quality=85)


def _poster() -> bytes:
    image = Image.fromarray(land.valley(640, 480, land.NOON, seed=407)(0.0))
    draw_text(image, "MILL FAIR", 0.08, 0.16)
    draw_text(image, "Saturday at the old bridge\nflour, bread, music and a race\nof paper boats", 0.40, 0.08)
    draw_text(image, "from ten in the morning", 0.80, 0.08)
    return saved(image, "JPEG", quality=90)


def _autumn() -> bytes:
    return saved(land.valley(768, 432, land.AUTUMN, seed=408)(0.0), "JPEG", quality=88)


def _bomb() -> bytes:
    """A PNG of 90 bytes that declares 3,600 million pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">2I5B", _BOMB_SIDE, _BOMB_SIDE, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(64), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _rubbish() -> bytes:
    return np.random.default_rng(409).bytes(4096)


_AUTUMN_MILL = "A white windmill with four red-brown sails on an autumn hill under white clouds."

STILLS: tuple[Still, ...] = (
    Still("images/windmill.jpg", 640, 480, _windmill, _AUTUMN_MILL),
    Still(
        "images/village.webp",
        720,
        480,
        _village,
        "Snow falls at night on a village of small houses with yellow windows under a full moon.",
    ),
    Still(
        "images/phone/IMG_0042.JPG",
        540,
        720,
        _turned_balloon,
        "A balloon with red and yellow stripes rises over violet mountains and dark pines at dawn.",
    ),
    Still(
        "images/print/wheel.jpg",
        640,
        512,
        _printed_wheel,
        "A brown wooden water wheel in front of a grey stone wall above blue water.",
    ),
    Still("images/cutout.png", 600, 600, _cut_out_star),
    Still(f"{TAR}/000000100.jpg", 768, 432, _autumn, "Brown autumn hills with brown pines under a pale sun."),
    Still("images/thumb.jpg", 240, 160, _thumbnail, "Green hills and pines under a blue sky.", rule="image_resolution"),
    Still("images/fog.jpg", 640, 480, _fog, "Hills and pines in black and white.", rule="colour"),
    Still("images/poster.jpg", 640, 480, _poster, "A poster for a mill fair.", rule="text"),
    Still("images/broken.jpg", 0, 0, lambda: cut_short(_autumn(), 0.5), "Brown autumn hills.", refusal="corrupt"),
    Still("images/rubbish.png", 0, 0, _rubbish, refusal="not_an_image"),
    Still(f"{TAR}/000000101.png", 0, 0, _bomb, refusal="too_many_pixels"),
)

COPY = Still(f"{TAR}/000000102.jpg", 640, 480, _windmill, _AUTUMN_MILL)
DUPLICATE = replace(COPY.fact(), samples=(SampleFact(0.0, 0.0, "exact_duplicate"),), duplicate_of="images/windmill.jpg")
