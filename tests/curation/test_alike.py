"""Key frames that look alike, by their hashes: within a video the earliest, of other videos one each."""

import copies
import numpy as np
from PIL import Image

from reelmill import weights
from reelmill.curation.duplicates import alike as near
from reelmill.curation.duplicates.alike import Shown, alike
from reelmill.curation.duplicates.pdq import BYTES, pdq, shrunk


def photograph(name):
    return np.asarray(Image.open(weights.path(f"media-{name}")).convert("RGB"))


def hashed(image):
    return pdq(shrunk(image))


def shown(*frames):
    """Of (video, seconds, hash)."""
    items, times, hashes = zip(*frames, strict=True)
    return Shown(np.array(items), np.array(times, np.float64), np.stack(hashes))


EVERYTHING = np.ones(6, np.bool_)


def test_an_earlier_one_of_its_video_and_one_of_each_other_video_are_named():
    picture, other = photograph("china"), photograph("flower")
    copy = copies.compressed(picture, 30)
    frames = shown(
        (0, 1.0, hashed(picture)),
        (0, 5.0, hashed(other)),
        (0, 9.0, hashed(copy)),
        (0, 13.0, hashed(picture)),
        (1, 2.0, hashed(copy)),
        (1, 6.0, np.zeros(BYTES, np.uint8)),  # too dull to tell
    )
    found = {(frame, like) for frame, like, _ in alike(frames, EVERYTHING, EVERYTHING)}
    assert found == {(2, 0), (3, 0), (0, 4), (2, 4), (3, 4), (4, 2)}  # 4 is the copy itself, so 2 is nearer than 0
    new = frames.items == 1
    of_the_new = set(alike(frames, new, EVERYTHING))
    of_the_known = set(alike(frames, ~new, new))
    of_before = set(alike(frames, ~new, ~new))
    assert of_the_new | of_the_known | of_before == set(alike(frames, EVERYTHING, EVERYTHING))


def test_a_picture_that_everybody_shows_names_few_of_them(monkeypatch):
    monkeypatch.setattr(near, "VIDEOS", 2)
    frames = shown(*((n, 0.0, hashed(photograph("rocket"))) for n in range(6)))
    found = [frame for frame, _, _ in alike(frames, EVERYTHING, EVERYTHING)]
    assert {frame: found.count(frame) for frame in range(6)} == dict.fromkeys(range(6), 2)
