"""Cameras, still screens, repeated frames and borders against rendered truth over a photograph."""

import copies
import cv2
import numpy as np
import pytest
from PIL import Image

from reelmill import weights
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create

TIMES = np.arange(0, 4, 0.5)
SIZE = (384, 256)


@pytest.fixture(scope="module")
def picture():
    image = np.asarray(Image.open(weights.path("media-china")).convert("RGB"))
    return cv2.resize(image, (1152, 768), interpolation=cv2.INTER_AREA)


def seen(picture, right=0.0, down=0.0, zoom=1.0, turn=0.0):
    """What a camera sees that looks `right` and `down` pixels from the middle, `zoom` times larger, turned."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2 + right, height / 2 + down), turn, zoom)
    matrix[:, 2] += np.array(SIZE) / 2 - (width / 2 + right, height / 2 + down)
    return cv2.warpAffine(picture, matrix, SIZE, flags=cv2.INTER_LINEAR)


def score(name, images, times=TIMES, runs=None):
    scorer = create(name)
    scorer.setup()
    frames = Frames(np.stack(images), times[: len(images)], np.zeros((0, 3, 8, 8), np.uint8) if runs is None else runs)
    return scorer.score([Sample("s", "i", "video", 0.0, 4.0, 384, 256, 24.0, frames)])[0]


SHAKES = [0, 14, -4, 12, -10, 6, -12, 2]


@pytest.mark.parametrize(
    ("label", "column", "speed", "camera"),
    [
        ("static", "camera_pan", 0.0, lambda t: {}),
        ("pan", "camera_pan", 0.1, lambda t: {"right": 25.6 * t}),
        ("pan", "camera_pan", -0.1, lambda t: {"right": -25.6 * t}),
        ("tilt", "camera_tilt", 0.08, lambda t: {"down": 20.48 * t}),
        ("zoom", "camera_zoom", 0.1, lambda t: {"zoom": 1.2**t}),
        ("zoom", "camera_zoom", -0.09, lambda t: {"zoom": 1.2 ** (2 - t)}),
        ("roll", "camera_roll", 0.07, lambda t: {"turn": np.degrees(0.14) * t}),
        ("shake", "camera_roll", 0.0, lambda t: {"right": SHAKES[int(2 * t)], "down": -SHAKES[int(2 * t)] / 2}),
    ],
)
def test_a_camera_over_a_photograph_is_named_and_measured(picture, label, column, speed, camera):
    found = score("camera", [seen(picture, **camera(t)) for t in TIMES])
    assert found["camera"] == label
    assert found[column] == pytest.approx(speed, abs=0.015)


def test_where_nothing_is_common_no_camera_is_named(picture):
    noise = np.random.default_rng(0).integers(0, 255, (8, 256, 384, 3), np.uint8)
    assert set(score("camera", noise).values()) == {None}
    assert set(score("camera", noise[:1]).values()) == {None}


def test_a_small_thing_that_moves_is_not_the_camera(picture):
    frames = [seen(picture) for _ in TIMES]
    for n, frame in enumerate(frames):
        frame[100:150, 40 * n : 40 * n + 50] = (250, 30, 30)
    assert score("camera", frames)["camera"] == "static"


def test_slides_and_screens_stand_still_and_a_pan_does_not(picture):
    slide = [copies.compressed(seen(picture), 60) for _ in TIMES]
    for n, frame in enumerate(slide):
        slide[n] = frame.copy()
        slide[n][120:135, 20 * n : 20 * n + 10] = 255  # a pointer
    assert score("stillness", slide)["static_share"] > 0.97
    pan = [seen(picture, right=25 * t) for t in TIMES]
    assert score("stillness", pan)["static_share"] < 0.5
    assert score("stillness", pan[:1])["static_share"] is None


@pytest.mark.parametrize(("shown", "share"), [([0, 1, 2], 0.0), ([0, 0, 1], 0.5), ([0, 0, 0], 1.0)])
def test_frames_that_are_shown_again_are_counted(picture, shown, share):
    images = [seen(picture, right=25 * t) for t in TIMES]
    native = [[cv2.cvtColor(seen(picture, right=25 * t + n), cv2.COLOR_RGB2GRAY) for n in shown] for t in TIMES]
    assert score("stillness", images, runs=np.array(native))["repeated_frames"] == pytest.approx(share)
    still = [images[0]] * len(images)
    assert score("stillness", still, runs=np.array(native))["repeated_frames"] is None


def test_the_box_within_the_bars_is_given(picture):
    framed = [copies.letterboxed(seen(picture, right=25 * t), 0.2) for t in TIMES]
    found = score("borders", framed)
    bar = 51 / (256 + 2 * 51)
    assert found["border_share"] == pytest.approx(2 * bar, abs=0.01)
    assert (found["crop_left"], found["crop_right"]) == (0.0, 1.0)
    assert (found["crop_top"], found["crop_bottom"]) == pytest.approx((bar, 1 - bar), abs=0.01)
    assert score("borders", [seen(picture)])["border_share"] == 0.0
