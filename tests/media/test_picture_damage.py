"""Damage of pictures that Pillow opens without a word: warnings of libjpeg, checksums of PNG, ends that are missing."""

import numpy as np
import pytest
from media_reading import expand
from odd_media import picture
from odd_pictures import png, profile, saved, turned
from PIL import Image

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
}


def found(path, data):
    path.write_bytes(data)
    ((sample, arrays),), item = expand(path)
    return sample["damaged_frames"], item["errors"], item["damage"], arrays["images"][0]


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_picture_shows_none(tmp_path, name):
    assert found(tmp_path / name, saved(Image.fromarray(picture()), **SOUND[name]))[:3] == (0, 0, None)


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
