"""The sentence of measured facts beside rendered pictures and clips whose facts are known: it says nothing false."""

import colorsys

import cv2
import numpy as np
import pytest

from reelmill.curation.captions.checks import problem
from reelmill.curation.captions.plain import FactsCaptioner
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create

SCORERS = ("colourfulness", "tones", "motion_dis")


def painted(hues, saturation, value, seed=0, height=180, width=320):
    """Patches of all sizes in colors of these ranges (hue in degrees, the others in shares), softened a little."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.uint8)
    for _ in range(400):
        hsv = [rng.uniform(low, high) for low, high in (hues, saturation, value)]
        colour = [round(255 * c) for c in colorsys.hsv_to_rgb((hsv[0] % 360) / 360, hsv[1], hsv[2])]
        x, y, w, h = rng.integers(0, width), rng.integers(0, height), *rng.integers(8, 60, 2)
        picture[y : y + h, x : x + w] = colour
    picture[picture.sum(axis=2) == 0] = colour
    return cv2.GaussianBlur(picture, (0, 0), 1)


def caption(images, seconds=0.0):
    """What is said of pictures [N, H, W, 3] half a second apart."""
    images = np.asarray(images)
    kind = "video" if len(images) > 1 else "image"
    height, width = images.shape[1:3]
    frames = Frames(images, np.arange(len(images)) / 2, np.zeros((0, 3, 1, 1), np.uint8))
    sample = Sample("s", "i", kind, 1.0, 1.0 + seconds, width, height, 24.0, frames)
    row = {"kind": kind, "width": width, "height": height, "start_s": 1.0, "end_s": 1.0 + seconds}
    for name in SCORERS:
        scorer = create(name)
        if kind in scorer.kinds:
            scorer.setup()
            row |= scorer.score([sample])[0]
    row["motion_score"] = row.get("motion_dis")
    said = FactsCaptioner().caption(row)
    assert problem(said) is None
    return said


ALL, WARM = (0, 360), (18, 38)
PICTURES = {  # hues, saturation, value; what is true and striking, and what of the words is false
    "a gray fog": (ALL, (0, 0), (0.4, 0.7), {"in shades of gray"}, {"dark", "bright", "vivid", "muted"}),
    "a gray night": (ALL, (0, 0), (0.02, 0.2), {"dark", "in shades of gray"}, {"bright", "vivid"}),
    "a faded print": (ALL, (0.02, 0.12), (0.5, 0.7), {"in muted colors"}, {"dark", "bright", "vivid", "gray"}),
    "a dim brown room": (WARM, (0.45, 0.8), (0.05, 0.3), {"dark"}, {"bright", "vivid", "gray"}),
    "a brown room": (WARM, (0.4, 0.85), (0.3, 0.55), set(), {"bright", "vivid", "gray", "dark"}),
    "autumn leaves on the ground": ((10, 60), (0.3, 0.8), (0.2, 0.55), set(), {"bright", "vivid", "gray"}),
    "green hills in haze": ((80, 160), (0.1, 0.4), (0.4, 0.7), set(), {"dark", "bright", "vivid", "gray"}),
    "colored lamps at night": (ALL, (0.7, 1), (0.02, 0.3), {"dark"}, {"bright", "vivid", "gray", "muted"}),
    "pastel walls": (ALL, (0.08, 0.25), (0.9, 1), {"bright"}, {"dark", "vivid", "gray"}),
    "snow": ((200, 220), (0, 0.03), (0.88, 1), {"bright"}, {"dark", "vivid"}),
    "toys": (ALL, (0.85, 1), (0.85, 1), {"in vivid colors"}, {"dark", "muted", "gray"}),
    "a red carpet": ((350, 370), (0.85, 1), (0.8, 1), {"in vivid colors"}, {"bright", "muted", "gray"}),
    "tulips": ((-40, 60), (0.8, 1), (0.8, 1), {"in vivid colors"}, {"dark", "muted", "gray"}),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("seed", [0, 1])
def test_of_light_and_colors_the_striking_is_said_and_nothing_false(name, seed):
    *look, true, false = PICTURES[name]
    said = caption([painted(*look, seed=seed)])
    assert all(words in said for words in true)
    assert not [word for word in false if word in said]


SHAPES = [(90, 160, "horizontal"), (160, 90, "vertical"), (128, 130, "square")]


@pytest.mark.parametrize(("height", "width", "word"), SHAPES)
def test_orientation_is_no_scenery(height, width, word):
    said = caption([painted(WARM, (0.4, 0.8), (0.4, 0.6), height=height, width=width)])
    assert said == f"A {word} image."
    assert not {"landscape", "portrait", "panorama"} & set(said.lower().replace(".", "").split())


@pytest.mark.parametrize(("pixels", "word"), [(0, "little"), (1, "little"), (8, "some"), (40, "much")])
def test_what_moves_is_said_as_it_moves(pixels, word):
    """A camera that travels so many pixels in half a second over a picture of 180 lines."""
    wide = painted(ALL, (0.5, 0.9), (0.4, 0.8), width=320 + 4 * 40)
    said = caption([wide[:, k * pixels : k * pixels + 320] for k in range(5)], seconds=2.5)
    assert said.startswith("A horizontal video, 2.5 seconds, ")
    assert said.endswith(f"with {word} motion.")


def test_a_small_ball_in_a_still_picture_is_little_motion():
    still = painted(ALL, (0.5, 0.9), (0.4, 0.8))
    frames = [cv2.circle(still.copy(), (40 + 60 * k, 90), 6, (250, 250, 250), -1) for k in range(5)]
    assert "with little motion" in caption(frames, 2.5)


def test_nothing_is_said_of_what_is_not_known():
    row = {"kind": "video", "width": 4, "height": 3, "start_s": 0.0, "end_s": 2.0}
    assert FactsCaptioner().caption(row) == "A horizontal video, 2.0 seconds."
    near = row | {"motion_score": 0.09, "motion_raft_error": 0.75}  # 0.05 to 0.16
    assert FactsCaptioner().caption(near) == "A horizontal video, 2.0 seconds."
    assert FactsCaptioner().caption(near | {"motion_raft_error": 0.0}).endswith("with some motion.")
    assert FactsCaptioner().caption(near | {"frozen_share": 1.0}).endswith("without motion.")
