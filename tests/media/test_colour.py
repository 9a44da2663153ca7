"""Colours come out as they are meant: high dynamic range, wide primaries, ranges, depths, alpha, fields."""

import av
import numpy as np
import pytest
from grading import BT709, BT2020, BT2020_10, HLG, NCL, P3, PC, PQ, TV, graded, light_of, signal, to_xyz
from media_reading import expand, first_picture, near, read
from odd_media import CORNERS, HEIGHT, WIDTH, corners_of, film, picture, pictures

from reelmill.media.colour import tone


@pytest.mark.parametrize(
    ("transfer", "primaries", "bits", "words"),
    [
        (PQ, BT2020, 10, ("smpte2084", "bt2020")),
        (PQ, BT2020, 12, ("smpte2084", "bt2020")),
        (PQ, P3, 10, ("smpte2084", "smpte432")),
        (HLG, BT2020, 10, ("arib-std-b67", "bt2020")),
        (BT2020_10, BT2020, 10, ("bt2020-10", "bt2020")),
        (BT709, P3, 10, ("bt709", "smpte432")),
        (BT709, BT709, 10, ("bt709", "bt709")),
    ],
)
@pytest.mark.parametrize("span", [TV, PC])
def test_what_is_no_brighter_than_white_keeps_its_colour(tmp_path, transfer, primaries, bits, words, span):
    path = graded(tmp_path / "v.mkv", transfer, primaries, bits, span)
    samples, item = expand(path)
    assert near(corners_of(first_picture(path)), CORNERS, 3)
    assert near(corners_of(samples[0][1]["images"][0]), CORNERS, 3)
    assert (item["transfer"], item["primaries"]) == words
    assert (item["colour_range"], item["bit_depth"]) == ("tv" if span == TV else "pc", bits)


def test_the_whole_picture_is_right_not_only_flat_corners(tmp_path):
    path = graded(tmp_path / "v.mkv", PQ, BT2020)
    assert np.abs(first_picture(path).astype(int) - picture()).max() <= 3


def test_the_curve():
    """Nothing changes up to 0.9; then it rises to 1 at 10,000 cd/m² without a bend, and never falls."""
    light = np.linspace(0, 10_000 / 203, 100_000).astype(np.float32)
    curved = tone(light)
    assert np.array_equal(curved[light <= 0.9], light[light <= 0.9])
    assert np.diff(curved).min() > -1e-6
    assert curved[-1] == pytest.approx(1.0, abs=1e-4)
    assert tone(np.float32([1.0]))[0] == pytest.approx(0.95, abs=0.001)
    slope = np.diff(curved) / np.diff(light)
    assert np.abs(np.diff(slope[light[:-1] < 2])).max() < 0.02


def test_bright_light_keeps_its_hue(tmp_path):
    """Red light five times as bright as white's red is bright red, and not orange or white."""
    bright = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    bright[:] = (255, 60, 60)
    frame_light = light_of(bright) * 3
    value = signal(np.clip(frame_light @ (np.linalg.inv(to_xyz(BT2020)) @ to_xyz(BT709)).T, 0, None), PQ)
    y = value @ [0.2627, 0.6780, 0.0593]
    cb, cr = (value[..., 2] - y) / 1.8814, (value[..., 0] - y) / 1.4746
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv444p10le")
    for plane, values in zip(frame.planes, (y * 876 + 64, cb * 896 + 512, cr * 896 + 512), strict=True):
        stored = np.zeros((HEIGHT, plane.line_size // 2), np.uint16)
        stored[:, :WIDTH] = np.round(values)
        plane.update(stored.tobytes())
    path = film(tmp_path / "v.mkv", [frame], codec="ffv1", pixels="yuv444p10le", colours=(NCL, PQ, BT2020, TV))
    red, green, blue = (int(v) for v in first_picture(path)[48, 64])
    assert red >= 250
    assert 55 <= green <= 72
    assert abs(green - blue) <= 2


ALPHA = {
    "qtrle.mov": {"codec": "qtrle", "pixels": "argb"},
    "png.mov": {"codec": "png", "pixels": "rgba"},
    "prores.mov": {"codec": "prores_ks", "pixels": "yuva444p10le"},
    "ffv1.mkv": {"codec": "ffv1", "pixels": "bgra"},
    "vp8.webm": {"codec": "libvpx", "pixels": "yuva420p", "options": {"auto-alt-ref": "0", "deadline": "realtime"}},
    "vp9.webm": {"codec": "libvpx-vp9", "pixels": "yuva420p", "options": {"deadline": "realtime", "cpu-used": "8"}},
}


@pytest.mark.parametrize("name", ALPHA)
def test_alpha_lies_over_white(tmp_path, name):
    images = []
    for image in pictures(4):
        alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
        alpha[:, WIDTH // 2 :] = 0
        images.append(np.dstack([image, alpha]))
    path = film(tmp_path / name, images, stream_pixels="rgba", **ALPHA[name])
    samples, _ = expand(path)
    expected = [CORNERS[0], (255, 255, 255), CORNERS[2], (255, 255, 255)]
    assert near(corners_of(first_picture(path)), expected, 8)
    assert near(corners_of(samples[0][1]["images"][0]), expected, 8)


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_fields_of_two_moments_become_pictures_of_one(tmp_path, codec):
    """A bar that moves is one bar, not a comb; still parts keep their lines."""
    images = []
    for n in range(20):
        fields = []
        for moment in (2 * n, 2 * n + 1):
            image = picture(0)
            image[32:64, :] = 128
            image[32:64, 4 * moment : 4 * moment + 16] = 0
            fields.append(image)
        woven = fields[0].copy()
        woven[1::2] = fields[1][1::2]
        images.append(woven)
    how = {
        "mpeg2video": {"fps": 25, "options": {"flags": "+ilme+ildct", "qmin": "1", "qmax": "3"}},
        "libx264": {"options": {"x264-params": "interlaced=1:tff=1"}},
    }[codec]
    path = film(tmp_path / "v.mkv", images, codec=codec, **how)
    facts, times = read(path)
    assert facts.interlaced is True
    assert times == pytest.approx([n / facts.fps for n in range(20)], abs=0.002)
    samples, item = expand(path)
    assert item["interlaced"] is True
    shown = first_picture(path)
    assert near(corners_of(shown), CORNERS, 8)
    band = shown[34:62, :, 1].astype(int)
    comb = np.abs(band[1:-1] - (band[:-2] + band[2:]) / 2).mean()
    woven = images[0][34:62, :, 1].astype(int)
    assert comb < 0.25 * np.abs(woven[1:-1] - (woven[:-2] + woven[2:]) / 2).mean()
    assert len(samples) == 1


def test_progressive_frames_are_not_touched(tmp_path):
    facts, _ = read(film(tmp_path / "v.mpg", codec="mpeg2video", fps=25))
    assert facts.interlaced is False
