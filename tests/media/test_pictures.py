"""Pictures: upright, sRGB, over white; every depth scaled or refused; animations never their first blank frame."""

import struct
import zlib

import numpy as np
import pytest
from grading import BT709, BT2020, NCL, PC, PQ, coded, light_of, signal, to_xyz
from media_reading import expand, near, read, source
from odd_media import CORNERS, HEIGHT, LIGHT, WIDTH, corners_of, film, picture, pictures
from odd_pictures import animation, in_profile, png, profile, saved, turned
from PIL import Image

from reelmill.errors import Refused
from reelmill.media.limits import Limits
from reelmill.media.pictures import open_picture

GREY = picture()[..., 1]


def shown(path):
    """The picture as everyone gets it."""
    image, facts = open_picture(source(path), Limits())
    return np.asarray(image), facts


def written(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(tmp_path, kind, orientation):
    stored, exif = turned(picture(), orientation)
    path = tmp_path / f"p.{kind}"
    stored.save(path, exif=exif, **({"quality": 95} if kind in ("jpg", "webp", "avif") else {}))
    image, facts = shown(path)
    assert (facts.width, facts.height) == (WIDTH, HEIGHT)
    assert near(corners_of(image), CORNERS, 8)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("name", ["p3", "adobe"])
def test_embedded_profiles(tmp_path, kind, name):
    path = tmp_path / f"p.{kind}"
    best = {"quality": 98, "subsampling": "4:4:4"}
    how = {"jpg": best, "webp": {"lossless": True}, "avif": best}.get(kind, {})
    Image.fromarray(in_profile(picture(), name)).save(path, icc_profile=profile(name), **how)
    image, facts = shown(path)
    assert near(corners_of(image), CORNERS, 8)
    assert facts.primaries == f"icc:{name}"


def test_profiles_of_grey_pictures_and_with_alpha(tmp_path):
    data = saved(Image.fromarray(GREY), format="PNG", icc_profile=profile("grey", b"GRAY"))
    path = written(tmp_path / "g.png", data)
    light = (GREY[2, 2] / 255) ** 1.8
    expected = 255 * (1.055 * light ** (1 / 2.4) - 0.055)
    assert abs(int(shown(path)[0][2, 2, 0]) - expected) <= 2
    rgba = np.dstack([in_profile(picture(), "p3"), np.full((HEIGHT, WIDTH, 1), 255, np.uint8)])
    rgba[:, : WIDTH // 2, 3] = 0
    path = written(tmp_path / "a.png", saved(Image.fromarray(rgba), format="PNG", icc_profile=profile("p3")))
    white = (255, 255, 255)
    assert near(corners_of(shown(path)[0]), [white, CORNERS[1], white, CORNERS[3]], 4)


@pytest.mark.parametrize("broken", [b"", b"rubbish" * 40, profile("p3")[:200], profile("grey", b"GRAY")])
def test_a_profile_that_is_broken_or_of_another_kind_is_ignored(tmp_path, broken):
    path = written(tmp_path / "p.jpg", saved(Image.fromarray(picture()), format="JPEG", quality=95, icc_profile=broken))
    assert near(corners_of(shown(path)[0]), CORNERS)


SIXTEEN = (GREY.astype(np.uint32) * 257).astype(np.uint16)


@pytest.mark.parametrize("name", ["grey16.png", "grey16.tif", "greyalpha16.png", "rgb16.png", "big.tif"])
def test_sixteen_bits_are_scaled(tmp_path, name):
    path = tmp_path / name
    if name == "greyalpha16.png":
        path.write_bytes(png(np.dstack([SIXTEEN, np.full_like(SIXTEEN, 65535)]), depth=16, colour=4))
    elif name == "rgb16.png":
        path.write_bytes(png(picture().astype(np.uint16) * 257, depth=16, colour=2))
    elif name == "big.tif":
        Image.frombytes("I;16B", (WIDTH, HEIGHT), SIXTEEN.astype(">u2").tobytes()).save(path)
    else:
        Image.fromarray(SIXTEEN).save(path)
    image, facts = shown(path)
    expected = picture() if name == "rgb16.png" else np.repeat(GREY[..., None], 3, 2)
    assert np.abs(image.astype(int) - expected).max() <= 1
    assert facts.bit_depth == 16


def test_twelve_bits_in_sixteen_are_scaled_by_what_the_file_says(tmp_path):
    """A TIFF says how many bits a value has; white is 4,095 then."""
    packed = np.round(GREY.astype(float) * 4095 / 255).astype(int).ravel()
    data = bytearray()
    for first, second in packed.reshape(-1, 2).tolist():
        data += bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    entries = [(256, 3, WIDTH), (257, 3, HEIGHT), (258, 3, 12), (259, 3, 1), (262, 3, 1), (277, 3, 1), (278, 3, HEIGHT)]
    entries += [(273, 4, 8), (279, 4, len(data))]
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(entries)
    )
    path = written(tmp_path / "p.tif", struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + directory + bytes(4))
    image, facts = shown(path)
    assert np.abs(image[..., 0].astype(int) - GREY).max() <= 1
    assert facts.bit_depth == 12


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_values_without_a_white_are_refused(tmp_path, kind):
    Image.fromarray(GREY.astype(kind)).save(tmp_path / "p.tif")
    with pytest.raises(Refused, match="no_white"):
        shown(tmp_path / "p.tif")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_modes(tmp_path, mode):
    whole = Image.fromarray(picture())
    special = {"P": whole.quantize(256), "PA": whole.quantize(256).convert("PA"), "LAB": _lab(whole)}
    image = special.get(mode) or whole.convert(mode)
    path = tmp_path / "p.tif"
    image.save(path)
    got = shown(path)[0].astype(int)
    if mode in ("1", "L", "LA"):
        assert np.abs(got.mean() - np.asarray(whole.convert("L")).mean()) < 3
    else:
        assert np.abs(got - picture()).mean() < 6


def _lab(image):
    from PIL import ImageCms

    return ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )


def test_transparency_lies_over_white_in_every_kind(tmp_path):
    clear = Image.new("RGBA", (WIDTH, HEIGHT), (255, 0, 0, 0))
    palette = Image.new("P", (WIDTH, HEIGHT), 1)
    palette.putpalette([0, 0, 0, 200, 40, 40])
    for name, data in {
        "a.png": saved(clear, format="PNG"),
        "la.png": saved(clear.convert("LA"), format="PNG"),
        "p.png": saved(palette, format="PNG", transparency=1),
        "l.png": saved(Image.new("L", (WIDTH, HEIGHT), 7), format="PNG", transparency=7),
        "rgb.png": saved(Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3)), format="PNG", transparency=(1, 2, 3)),
        "a.webp": saved(clear, format="WEBP", lossless=True, exact=True),
        "a.gif": saved(palette, format="GIF", transparency=1),
        "a.avif": saved(clear, format="AVIF"),
        "a.tif": saved(clear, format="TIFF"),
    }.items():
        assert shown(written(tmp_path / name, data))[0].min() == 255, name


def test_png_says_its_gamma_or_its_code_points(tmp_path):
    light = light_of(picture())
    linear = np.round(light * 65535).astype(np.uint16)
    gamma = (b"gAMA", struct.pack(">I", 100_000))
    path = written(tmp_path / "linear.png", png(linear, depth=16, chunks=[gamma]))
    assert near(corners_of(shown(path)[0]), CORNERS, 14)  # Pillow keeps 8 of the 16 bits
    plain = png(picture(), chunks=[(b"gAMA", struct.pack(">I", 45455))])
    assert np.array_equal(shown(written(tmp_path / "plain.png", plain))[0], picture())
    void = png(picture(), chunks=[(b"sRGB", b"\0"), gamma])
    assert np.array_equal(shown(written(tmp_path / "void.png", void))[0], picture())
    pq = np.round(255 * signal(light @ _to_bt2020().T, PQ)).astype(np.uint8)
    path = written(tmp_path / "pq.png", png(pq, chunks=[(b"cICP", bytes([BT2020, PQ, 0, 1]))]))
    image, facts = shown(path)
    assert near(corners_of(image), CORNERS, 8)
    assert (facts.transfer, facts.primaries, facts.colour_range) == ("smpte2084", "bt2020", "pc")


def _to_bt2020():
    return np.linalg.inv(to_xyz(BT2020)) @ to_xyz(BT709)


def test_an_avif_of_high_dynamic_range(tmp_path):
    frame = coded(picture(), PQ, BT2020, 10, PC).reformat(format="yuv420p10le")
    how = {"codec": "libsvtav1", "pixels": "yuv420p10le", "colours": (NCL, PQ, BT2020, PC), "container": "avif"}
    path = film(tmp_path / "p.avif", [frame], width=WIDTH, height=HEIGHT, options={"crf": "5", "preset": "10"}, **how)
    image, facts = shown(path)
    assert near(corners_of(image), CORNERS, 16)  # Pillow gives 8 of the 10 bits, on PQ's curve
    assert (facts.transfer, facts.primaries, facts.bit_depth) == ("smpte2084", "bt2020", 10)


ANIMATIONS = {
    "gif": {},
    "webp": {"lossless": True},
    "png": {},
    "avif": {"quality": 95},
}


@pytest.mark.parametrize("kind", ANIMATIONS)
def test_an_animation_is_not_its_first_blank_frame(tmp_path, kind):
    blank = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    path = animation(tmp_path / f"p.{kind}", [blank, blank - 40, *pictures(4)], 100, **ANIMATIONS[kind])
    image, facts = shown(path)
    assert near(corners_of(image), CORNERS, 14)
    assert (facts.frames, facts.width, facts.height) == (6, WIDTH, HEIGHT)


@pytest.mark.parametrize("kind", ANIMATIONS)
def test_an_animation_may_be_a_video(tmp_path, kind):
    stays = [100, 300, 100, 100, 200]
    path = animation(tmp_path / f"p.{kind}", pictures(5), stays, **ANIMATIONS[kind])
    facts, times = read(path)
    assert times == pytest.approx([0, 0.1, 0.4, 0.5, 0.6], abs=0.002)
    assert (facts.frames, facts.fps, facts.duration_s) == (5, pytest.approx(10), pytest.approx(0.8, abs=0.002))


def test_frames_that_are_to_stay_no_time_stay_as_in_a_browser(tmp_path):
    facts, times = read(animation(tmp_path / "p.gif", pictures(3), 0))
    assert (times, facts.duration_s) == ([0, 0.1, 0.2], pytest.approx(0.3))


def test_pages_are_no_animation(tmp_path):
    pages = [Image.fromarray(image) for image in pictures(3)]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    image, facts = shown(tmp_path / "p.tif")
    assert near(corners_of(image), CORNERS)
    assert facts.frames == 3
    with pytest.raises(Refused, match="does not move"):
        read(written(tmp_path / "still.gif", saved(pages[0], format="GIF")))


def test_a_large_photograph_is_no_bomb_and_a_bomb_names_its_bound(tmp_path):
    Image.new("RGB", (8064, 6048), LIGHT).save(tmp_path / "48.jpg", quality=50)
    samples, item = expand(tmp_path / "48.jpg")
    assert (item["width"], item["height"]) == (8064, 6048)
    assert near(samples[0][1]["images"][0][5, 5], LIGHT)
    bomb = bytearray(png(np.zeros((8, 8, 3), np.uint8)))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    with pytest.raises(Refused, match=r"60000x60000 take 13733 MiB decoded, allowed 512 MiB \(max_picture_mb\)"):
        shown(written(tmp_path / "bomb.png", bytes(bomb)))
    with pytest.raises(Refused, match="max_pixels"):
        expand(tmp_path / "48.jpg", max_pixels=1_000_000)


def test_a_strip_is_read(tmp_path):
    Image.new("RGB", (24_200, 22), LIGHT).save(tmp_path / "strip.jpg")
    samples, item = expand(tmp_path / "strip.jpg")
    assert (item["width"], item["height"]) == (24_200, 22)
    assert samples[0][1]["images"].shape == (1, 1, 1024, 3)


def test_the_static_image_of_an_animated_png_is_not_of_its_frames(tmp_path):
    poster = np.full((HEIGHT, WIDTH, 3), (9, 9, 9), np.uint8)
    poster[:9] = 200
    path = animation(tmp_path / "p.png", [poster, *pictures(4)], 100, default_image=True)
    facts, times = read(path)
    assert (facts.frames, facts.duration_s, len(times)) == (4, pytest.approx(0.4), 4)
    image, facts = shown(path)
    assert near(corners_of(image), CORNERS)
    assert facts.frames == 4
