"""Colourfulness and quality against pictures whose colours, blur, light and contrast are known."""

import cv2
import numpy as np
import pytest
from PIL import Image

from reelmill import weights
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create, image_quality


def scene(seed=0, height=256, width=340):
    """A picture with structure at all scales and normal light."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 120, np.float32)
    for cells in (2, 4, 8, 16, 32, 64, 128):
        grid = rng.normal(size=(cells, cells, 3)).astype(np.float32)
        picture += cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR) * 22
    return np.clip(picture, 0, 255).astype(np.uint8)


def score(name, *images):
    scorer = create(name)
    scorer.setup()
    images = np.stack(images)
    frames = Frames(images, np.zeros(len(images)), np.zeros((0, 3, 8, 8), np.uint8))
    (row,) = scorer.score([Sample("s", "i", "image", 0.0, 0.0, 64, 64, 0.0, frames)])
    return next(iter(row.values()))


def test_colourfulness_of_hand_worked_pictures():
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    assert score("colourfulness", grey) == 0
    # Pure red: rg = 255 and yb = 127.5 everywhere, so no spread and an offset of |(255, 127.5)|.
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    assert score("colourfulness", red) == pytest.approx(0.3 * np.hypot(255, 127.5), rel=1e-5)
    # Half red, half green: rg = ±255 (mean 0, spread 255), yb = 127.5 (spread 0).
    half = red.copy()
    half[:, 4:] = (0, 255, 0)
    assert score("colourfulness", half) == pytest.approx(255 + 0.3 * 127.5, rel=1e-5)
    assert score("colourfulness", red, grey[:8, :8]) == pytest.approx(0.15 * np.hypot(255, 127.5), rel=1e-5)


def test_a_monochrome_card_breaks_the_recipes_bound():
    tinted = np.repeat(scene().mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    assert score("colourfulness", tinted) < 5 < score("colourfulness", scene())


@pytest.mark.parametrize("seed", range(3))
def test_a_normal_picture_passes_the_recipes_bound_by_far(seed):
    assert score("quality", scene(seed)) > 0.6


@pytest.mark.parametrize(
    "spoil",
    [
        lambda image: cv2.GaussianBlur(image, (0, 0), 4),
        lambda image: (image * 0.12).astype(np.uint8),
        lambda image: np.clip(image.astype(int) + 130, 0, 255).astype(np.uint8),
        lambda image: (128 + (image.astype(float) - 128) * 0.15).astype(np.uint8),
        lambda image: np.full_like(image, 128),
        np.zeros_like,
        lambda image: np.full_like(image, 255),
    ],
    ids=["blurred", "dark", "burnt out", "flat", "uniform", "black", "white"],
)
def test_a_spoilt_picture_breaks_the_recipes_bound(spoil):
    assert score("quality", spoil(scene())) < 0.3


@pytest.mark.parametrize("card", ["media-china", "media-flower", "media-astronaut", "media-rocket"])
def test_a_real_photograph_passes_until_it_is_blurred(card):
    photograph = np.asarray(Image.open(weights.path(card)).convert("RGB"))
    scale = 256 / min(photograph.shape[:2])
    photograph = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    assert score("quality", photograph) > 0.6
    assert score("quality", cv2.GaussianBlur(photograph, (0, 0), 5)) < 0.3


def test_quality_falls_with_blur_and_stays_in_its_range():
    scores = [score("quality", cv2.GaussianBlur(scene(), (0, 0), sigma)) for sigma in (0.1, 1, 2, 4, 8)]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] < scores[0] <= 1


def test_sharpness_does_not_depend_on_contrast():
    luma = cv2.cvtColor(scene(), cv2.COLOR_RGB2GRAY).astype(np.float32)
    assert image_quality.sharpness(luma * 0.3 + 50) == pytest.approx(image_quality.sharpness(luma), abs=1e-3)


def test_quality_is_the_mean_over_the_frames():
    black = np.zeros_like(scene())
    assert score("quality", scene(), black) == pytest.approx(score("quality", scene()) / 2)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (500, 3)])
def test_tiny_pictures_are_scored(shape):
    image = np.full((*shape, 3), 77, np.uint8)
    assert score("quality", image) == 0
    assert score("colourfulness", image) == 0
