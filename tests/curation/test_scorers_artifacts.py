"""Blur, noise, blocks and combs: photographs that were spoilt by known amounts, as files that are decoded."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from copies import compressed
from PIL import Image
from videos import textured, write_video

from reelmill import weights
from reelmill.config import to_dict
from reelmill.curation.expanders import image, video
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create
from reelmill.curation.scoring import DecodeConfig, ScoreConfig
from reelmill.media.source import Source
from reelmill.pipelines.curate.recipes import load

CARDS = ["media-china", "media-flower", "media-astronaut", "media-rocket"]
RULES = load("video").rules


@pytest.fixture(scope="module", params=CARDS)
def photograph(request):
    return np.asarray(Image.open(weights.path(request.param)).convert("RGB"))


def score(path, expand=image.expand):
    """What the scorer says of the first sample of a file."""
    options = {**to_dict(DecodeConfig()), "scenes": to_dict(ScoreConfig().scenes)}
    body, arrays = next(expand(Source(str(path), 0, path.stat().st_size), options))
    kind = "video" if expand is video.expand else "image"
    size = body["width"], body["height"], body["fps"]
    return create("artifacts").score([Sample("s", "i", kind, body["start_s"], body["end_s"], *size, Frames(**arrays))])[
        0
    ]


def scores(tmp_path, pictures, column):
    found = []
    for picture in pictures:
        Image.fromarray(picture).save(tmp_path / "picture.bmp")
        found.append(score(tmp_path / "picture.bmp")[column])
    return found


def grows(values):
    return all(after > before for before, after in pairwise(values))


def noisy(picture, deviation):
    added = np.random.default_rng(0).normal(0, deviation, picture.shape[:2])[..., None]
    return np.clip(picture + added, 0, 255).astype(np.uint8)


def test_blur_grows_with_a_gaussian(tmp_path, photograph):
    blurred = [photograph, *(cv2.GaussianBlur(photograph, (0, 0), sigma) for sigma in (1, 2, 4))]
    found = scores(tmp_path, blurred, "blur")
    assert grows(found) and found[0] < 0.45
    assert found[-1] > RULES["blur"].max > found[1]


def test_an_enlarged_picture_is_blurred_and_has_no_blocks(tmp_path, photograph):
    height, width = photograph.shape[:2]
    small = [cv2.resize(photograph, (width // k, height // k), interpolation=cv2.INTER_AREA) for k in (2, 4)]
    enlarged = [photograph, *(cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in small)]
    assert grows(scores(tmp_path, enlarged, "blur"))
    assert max(scores(tmp_path, enlarged, "blockiness")) < 0.2


def test_noise_is_measured_in_levels(tmp_path, photograph):
    deviations = (5, 10, 20)
    found = scores(tmp_path, [photograph, *(noisy(photograph, deviation) for deviation in deviations)], "noise")
    assert grows(found) and found[0] < 2
    assert found[1:] == pytest.approx(deviations, rel=0.3)  # what is clipped is lost, what is structure is added
    assert found[-1] > RULES["noise"].max > found[2]


def test_blocks_grow_with_compression_wherever_they_begin(tmp_path, photograph):
    spoilt = [compressed(photograph, quality) for quality in (70, 50, 30, 10, 5)]
    found = scores(tmp_path, [photograph, *spoilt], "blockiness")
    assert grows(found[1:]) and found[0] < 0.1
    assert found[-1] > RULES["blockiness"].max > found[3]
    (cut,) = scores(tmp_path, [spoilt[2][5:, 3:]], "blockiness")
    assert cut == pytest.approx(found[3], rel=0.25)


@pytest.mark.parametrize("column", ["noise", "blur"])
def test_compression_alone_does_not_pass_for(tmp_path, photograph, column):
    before, after = scores(tmp_path, [photograph, compressed(photograph, 30)], column)
    assert after < before + 0.05


def moving(photograph, speed, is_combed):
    """A pan; of each frame every second row shows the moment half a frame later."""
    for number in range(30):
        early = np.roll(photograph[:240, :320], -number * speed, axis=1)
        if is_combed:
            early[1::2] = np.roll(early, -speed // 2, axis=1)[1::2]
        yield early


def test_rows_of_two_moments_are_a_comb(tmp_path, photograph):
    found = []
    for name, speed, is_combed in (("still", 0, True), ("whole", 8, False), ("slow", 2, True), ("fast", 8, True)):
        path = write_video(tmp_path / f"{name}.mp4", moving(photograph, speed, is_combed), options={"crf": "18"})
        found.append(score(path, video.expand)["combing"])
    still, whole, slow, fast = found
    assert max(still, whole) < RULES["combing"].max < fast
    assert slow > whole


def test_what_cannot_be_measured_is_none(tmp_path):
    Image.fromarray(np.full((200, 300, 3), 128, np.uint8)).save(tmp_path / "plain.png")
    assert score(tmp_path / "plain.png") == {"blur": None, "noise": 0.0, "blockiness": None, "combing": None}
    Image.fromarray(np.zeros((200, 300, 3), np.uint8)).save(tmp_path / "black.png")
    assert score(tmp_path / "black.png")["noise"] is None
    Image.fromarray(textured(1, 20, 20)).save(tmp_path / "tiny.png")
    assert set(score(tmp_path / "tiny.png").values()) == {None}
