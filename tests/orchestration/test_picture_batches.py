"""Pictures of one size share a call of the encoder across samples; each has its own codes, and its own error."""

import numpy as np
import pytest

from reelmill.orchestration.picture_batches import PictureBatches
from reelmill.tokenize.vision import load
from reelmill.tokenize.vision.tokenizer import VisionTokenizer

BLACK = 7


@pytest.fixture
def calls(monkeypatch):
    """The sizes of the groups that are encoded, three at a time; a black picture cannot be."""
    sizes = []

    def encode_images(self, images):
        sizes.append(len(images))
        if any(not image.any() for image in images):
            raise ValueError("a black picture")
        return np.stack([self.encode_image(image) for image in images])

    encode_image = VisionTokenizer.encode_image
    one = VisionTokenizer.encode_images
    monkeypatch.setattr(VisionTokenizer, "encode_image", lambda self, image: one(self, image[None])[0])
    monkeypatch.setattr(VisionTokenizer, "encode_images", encode_images)
    yield sizes
    assert encode_image is not VisionTokenizer.encode_image


@pytest.mark.parametrize("together", [1, 3])
def test_each_picture_gets_its_own_codes_or_its_own_error(calls, monkeypatch, together):
    monkeypatch.setattr(VisionTokenizer, "pictures_at_once", together)
    rng = np.random.default_rng(0)
    sizes = [(16, 24), (24, 16), (16, 24), (16, 16), (16, 24), (16, 24), (24, 16), (16, 24), (16, 24)]
    pictures = [rng.integers(1, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    pictures[BLACK][:] = 0
    tokenizer, found = load("reelmill-tok-xs"), {}
    batches = PictureBatches(tokenizer)
    for number, picture in enumerate(pictures):
        batches.add(picture, lambda codes, number=number: found.setdefault(number, codes))
    if together == 1:
        assert len(found) == len(pictures), "none waits"
    batches.flush()
    assert sorted(found) == list(range(len(pictures)))
    assert "a black picture" in str(found.pop(BLACK))
    for number, codes in found.items():
        assert np.array_equal(codes, tokenizer.encode_image(pictures[number]))
    # Three of 16 x 24; then a group with the black one, and its three again one by one; two of 24 x 16; one.
    assert sorted(calls) == ([1] * 9 if together == 1 else [1, 1, 1, 1, 2, 3, 3])


def test_pictures_of_many_sizes_do_not_pile_up(calls, monkeypatch):
    monkeypatch.setattr(VisionTokenizer, "pictures_at_once", 3)
    found, most = [], 0
    batches = PictureBatches(load("reelmill-tok-xs"))
    for number in range(30):
        batches.add(np.full((8, 8 * (number + 1), 3), 9, np.uint8), found.append)
        most = max(most, number + 1 - len(found))
    assert most < 12
