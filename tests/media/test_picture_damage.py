"""Damage of pictures that Pillow opens without a word: warnings of libjpeg, checksums, ends missing or early."""

import io
import struct

import numpy as np
import pytest
from media_reading import expand
from odd_media import picture
from odd_pictures import png, profile, saved, turned
from PIL import Image

from reelmill.media.picture_ends import gif, webp

SOUND = {
    "base.jpg": {"format": "JPEG", "quality": 90},
    "progressive.jpg": {"format": "JPEG", "progressive": True},
    "restarts.jpg": {"format": "JPEG", "restart_marker_rows": 1},
    "a.png": {"format": "PNG"},
    "a.webp": {"format": "WEBP"},
    "a.gif": {"format": "GIF"},
    "a.bmp": {"format": "BMP"},
    "a.tif": {"format": "TIFF"},
    "a.avif": {"format": "AVIF"},
    **(
        SILENT := {
            "lossy.webp": {"format": "WEBP", "quality": 80},
            "alpha.webp": {"format": "WEBP", "quality": 80},
            "fine.avif": {"format": "AVIF", "quality": 90, "speed": 10},
            "codes.gif": {"format": "GIF"},
            "lzw.tif": {"format": "TIFF", "compression": "tiff_lzw"},
            "deflate.tif": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
            "lossless.webp": {"format": "WEBP", "lossless": True},
        }
    ),
}


def sound(name):
    rough = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    image = Image.fromarray(rough).resize((240, 160)) if name in SILENT else Image.fromarray(picture())
    if name == "alpha.webp":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    return saved(image, **SOUND[name])


def found(path, data):
    path.write_bytes(data)
    ((sample, arrays),), item = expand(path)
    return sample["damaged_frames"], item["errors"], item["damage"], arrays["images"][0]


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_picture_shows_none(tmp_path, name):
    assert found(tmp_path / name, sound(name))[:3] == (0, 0, None)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_are_decoded_as_pillow_decodes_them(tmp_path, mode):
    stored, exif = turned(picture(), 6)
    path = tmp_path / "a.jpg"
    data = saved(stored.convert(mode), format="JPEG", quality=85, exif=exif, icc_profile=profile("p3"))
    *_, seen = found(path, data)
    with Image.open(path) as opened:
        plain = np.asarray(opened.convert("RGB").rotate(-90, expand=True))
    assert seen.shape == plain.shape
    if mode == "L":  # the profile is one for RGB: nothing is converted
        assert np.array_equal(seen, plain)


@pytest.mark.parametrize("name", ["base.jpg", "progressive.jpg", "restarts.jpg"])
def test_libjpegs_warnings_count(tmp_path, name):
    data = saved(Image.fromarray(picture()), **SOUND[name])
    at = len(data) * 6 // 10
    damaged, errors, words, _ = found(tmp_path / name, data[:at] + data[at + 30 :])
    assert (damaged, errors) == (1, 1)
    assert words.startswith("jpeg: Corrupt JPEG data")


def test_a_jpeg_without_its_end_but_with_a_mark_of_one(tmp_path):
    data = saved(Image.fromarray(picture()), format="JPEG")
    damaged, _, words, _ = found(tmp_path / "a.jpg", data[: len(data) * 3 // 4] + b"\xff\xd9")
    assert (damaged, words) == (1, "jpeg: Corrupt JPEG data: premature end of data segment")


def test_checksums_of_png(tmp_path):
    data = png(picture(), chunks=[(b"tEXt", b"Title\0sound")])
    flipped = bytearray(data)
    flipped[data.index(b"IEND") - 5] ^= 1  # of the checksum of the pixels
    assert found(tmp_path / "a.png", bytes(flipped))[2] == "png: the checksum of a chunk IDAT is wrong"
    assert found(tmp_path / "b.png", data[: data.index(b"IEND") - 4])[2] == "png: the end is missing"


def test_ends_that_are_missing(tmp_path):
    gif, bmp = (saved(Image.fromarray(picture()), format=kind) for kind in ("GIF", "BMP"))
    assert found(tmp_path / "a.gif", gif[:-1])[2] == "gif: the end is missing"
    longer = bytearray(bmp)
    longer[2:6] = (len(bmp) + 10).to_bytes(4, "little")
    assert found(tmp_path / "a.bmp", bytes(longer))[2] == "bmp: # bytes are missing"


def test_lossless_webps_of_any_length_are_whole(tmp_path):
    for seed in range(24):
        rough = np.random.default_rng(seed).integers(0, 256, (5 + seed % 4, 7, 3), np.uint8)
        image = Image.fromarray(rough).resize((60 + seed, 40))
        assert webp(io.BytesIO(saved(image, format="WEBP", lossless=True)), image.size) == []


def opens(data):
    """Whether Pillow takes a file for whole."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, EOFError):
        return False
    return True


@pytest.mark.parametrize("name", [name for name in SILENT if name != "lossless.webp"])
def test_a_decoder_that_lost_its_place_does_not_end_where_the_bytes_do(tmp_path, name):
    data, flipped = sound(name), []
    for place in range(len(data) // 3, len(data) - 64, max(len(data) // 17, 1)):
        changed = bytearray(data)
        changed[place] ^= 0x5A
        flipped.append(bytes(changed))
    silent = [each for each in flipped if opens(each)]
    seen = [found(tmp_path / name, each)[0] for each in silent]
    share = 0.3 if name in ("codes.gif", "lzw.tif") else 0.75  # another code may stand for a string as long
    assert sum(seen) >= share * len(seen)
    assert silent or name == "deflate.tif"  # where libtiff unpacks on to the checksum it refuses


@pytest.mark.parametrize("colors", [2, 16, 256])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (301, 217)])
def test_codes_of_a_gif_are_counted_as_its_pixels(colors, size):
    values = np.random.default_rng(0).integers(0, colors, size[::-1], np.uint8)
    image = Image.fromarray(values).convert("P")
    image.putpalette([*range(256)] * 3)
    data = bytearray(saved(image, format="GIF"))
    assert gif(io.BytesIO(data)) == []
    place = data.index(b",\0\0\0\0" + struct.pack("<HH", *size)) + 5
    data[place : place + 2] = struct.pack("<H", size[0] + 1)
    assert gif(io.BytesIO(data)) == [f"gif: codes of {size[0] * size[1]} pixels for {(size[0] + 1) * size[1]}"]
