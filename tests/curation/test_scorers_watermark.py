"""Watermarks rendered over clips that move and over clips that stand."""

import copies
import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from reelmill import weights
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create

WIDTH, HEIGHT = 384, 256
FRAMES = 10


@pytest.fixture(scope="module")
def pan():
    picture = np.asarray(Image.open(weights.path("media-china")).convert("RGB"))
    picture = cv2.resize(picture, (1152, 768), interpolation=cv2.INTER_AREA)
    return [picture[200 : 200 + HEIGHT, 20 + 23 * n : 20 + 23 * n + WIDTH] for n in range(FRAMES)]


def text(draw, opacity):
    draw.text((230, 225), "millpictures.test", (255, 255, 255, opacity), ImageFont.load_default(size=16))
    return 230, 225, 360, 245


def stamp(draw, opacity):
    draw.text((80, 105), "millstock", (255, 255, 255, opacity), ImageFont.load_default(size=44))
    return 80, 112, 280, 152


def logo(draw, opacity):
    draw.ellipse((330, 15, 360, 45), (220, 30, 40, opacity), (255, 255, 255, opacity), width=2)
    draw.rectangle((338, 25, 352, 35), (255, 255, 255, opacity))
    return 330, 15, 360, 45


def marked(image, mark, opacity):
    """The picture with a mark over it, as JPEG at 60, and where the mark is."""
    over = Image.new("RGBA", (image.shape[1], image.shape[0]))
    box = mark(ImageDraw.Draw(over), round(255 * opacity))
    whole = Image.alpha_composite(Image.fromarray(image).convert("RGBA"), over).convert("RGB")
    return copies.compressed(np.asarray(whole), 60), box


def score(images):
    frames = Frames(np.stack(images), np.arange(len(images)) / 2, np.zeros((0, 3, 8, 8), np.uint8))
    (found,) = create("watermark").score([Sample("s", "i", "video", 0.0, 5.0, WIDTH, HEIGHT, 24.0, frames)])
    return found


@pytest.mark.parametrize("opacity", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("mark", [text, stamp, logo])
def test_a_mark_over_a_clip_that_moves_is_found_where_it_is(pan, mark, opacity):
    frames, boxes = zip(*(marked(image, mark, opacity) for image in pan), strict=True)
    found = score(frames)
    left, top, right, bottom = boxes[0]
    seen_left, seen_right = found["watermark_left"] * WIDTH, found["watermark_right"] * WIDTH
    seen_top, seen_bottom = found["watermark_top"] * HEIGHT, found["watermark_bottom"] * HEIGHT
    across = min(right, seen_right) - max(left, seen_left)
    down = min(bottom, seen_bottom) - max(top, seen_top)
    assert across > 0.7 * (right - left)
    assert down > 0.6 * (bottom - top)
    drawn = (right - left) * (bottom - top) / (WIDTH * HEIGHT)
    assert drawn / 2 < found["watermark_area"] < drawn * 1.5


def test_a_clip_that_moves_has_no_mark_of_its_own(pan):
    found = score([copies.compressed(image, 60) for image in pan])
    assert found["watermark_area"] == 0.0
    assert found["watermark_left"] is None


@pytest.mark.parametrize("mark", [None, text])
def test_where_the_camera_stands_nothing_can_be_told(pan, mark):
    still = [copies.compressed(pan[0], 50 + n) for n in range(FRAMES)]
    if mark:
        still = [marked(image, mark, 1.0)[0] for image in still]
    still = [image.copy() for image in still]
    for n, image in enumerate(still):
        image[100:180, 30 * n : 30 * n + 40] = (200, 60, 60)  # something goes through the picture
    assert set(score(still).values()) == {None}
    assert set(score(pan[:5]).values()) == {None}


def test_the_ends_of_bars_are_no_mark_and_a_mark_within_them_is(pan):
    framed = [copies.letterboxed(image, 0.15) for image in pan]
    assert score(framed)["watermark_area"] == 0.0
    found = score([copies.letterboxed(marked(image, text, 0.5)[0], 0.15) for image in pan])
    bar = round(HEIGHT * 0.15)
    assert found["watermark_top"] * (HEIGHT + 2 * bar) == pytest.approx(225 + bar, abs=12)


def test_a_mark_on_the_bars_is_a_mark(pan):
    framed = [copies.letterboxed(image, 0.15) for image in pan]
    found = score([marked(image, logo, 0.5)[0] for image in framed])
    assert found["watermark_right"] - found["watermark_left"] < 0.15
