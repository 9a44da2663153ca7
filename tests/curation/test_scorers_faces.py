"""Faces: a real one at known places, a drawn one that talks, and pictures without any."""

import numpy as np
import pytest
from PIL import Image

from reelmill import weights
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create
from reelmill.curation.scorers.mtcnn import Mtcnn
from reelmill.pipelines.sampledump import narrated

FACE = (0.43, 0.22, 0.12)  # the astronaut's: middle and half height of the face, as shares of the picture


@pytest.fixture(scope="module")
def scorer():
    scorer = create("faces")
    scorer.setup()
    return scorer


@pytest.fixture(scope="module")
def astronaut():
    return Image.open(weights.path("media-astronaut")).convert("RGB")


def sample(images):
    frames = Frames(np.stack(images), np.arange(len(images)) / 2, np.zeros((0, 3, 1, 1), np.uint8))
    height, width = images[0].shape[:2]
    return Sample("s", "i", "video", 0.0, len(images) / 2, width, height, 24.0, frames)


def placed(astronaut, left, top, side):
    """A gray picture of 320 x 256 with the astronaut at a place."""
    canvas = Image.new("RGB", (320, 256), (120, 120, 120))
    canvas.paste(astronaut.resize((side, side)), (left, top))
    return np.asarray(canvas)


@pytest.mark.parametrize(("left", "top", "side"), [(0, 0, 256), (60, 10, 240), (130, 60, 190)])
def test_a_real_face_is_found_where_it_is(astronaut, left, top, side):
    (box,) = Mtcnn()(placed(astronaut, left, top, side), 24)
    x, y, half = FACE
    assert (box[0] + box[2]) / 2 == pytest.approx(left + x * side, abs=0.05 * side)
    assert (box[1] + box[3]) / 2 == pytest.approx(top + y * side, abs=0.05 * side)
    assert (box[3] - box[1]) / 2 == pytest.approx(half * side, rel=0.4)


def test_a_face_that_stays_is_steady_and_one_that_moves_is_not(scorer, astronaut):
    still = [placed(astronaut, 40 + n, 0, 256) for n in range(4)]
    moving = [placed(astronaut, left, top, 170) for left, top in ((0, 0), (150, 0), (0, 86), (150, 86))]
    away = [np.full((256, 320, 3), 120, np.uint8)] * 4
    one, two, half = scorer.score([sample(still), sample(moving), sample([*still, *away])])
    assert one["face_steady"] == 1.0 and one["face_count"] == pytest.approx(1.0, abs=0.3)
    assert 0.015 < one["face_area"] < 0.06
    assert two["face_steady"] <= 0.5  # large enough, but each time elsewhere
    assert half["face_steady"] == 0.5 and half["face_area"] == pytest.approx(one["face_area"] / 2, rel=0.01)


def test_the_drawn_speaker_is_a_talking_head_and_the_how_to_is_none(scorer):
    steps = [np.ascontiguousarray(step.painter(n * 1.7)) for n, step in enumerate(narrated.how_to())]
    speaker = narrated.speaker()[0].painter
    talk, told = scorer.score([sample([np.ascontiguousarray(speaker(n * 0.9)) for n in range(8)]), sample(steps)])
    assert talk["face_steady"] > 0.8 and talk["face_area"] > 0.05
    assert told["face_steady"] == 0.0


def test_without_frames_nothing_is_said(scorer):
    nothing = Frames(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0), np.zeros((0, 3, 1, 1), np.uint8))
    (row,) = scorer.score([Sample("s", "i", "video", 0.0, 1.0, 320, 256, 24.0, nothing)])
    assert row == {"face_count": None, "face_area": None, "face_steady": None}
