"""What tests of reading ask of a file: its facts, its samples, its first picture."""

import numpy as np

from reelmill.config import to_dict
from reelmill.curation.expanders import image, video
from reelmill.curation.scenes import ScenesConfig
from reelmill.curation.scoring import DecodeConfig
from reelmill.media.kinds import kind_of
from reelmill.media.limits import Limits
from reelmill.media.moving import Renderer
from reelmill.media.opening import open_moving
from reelmill.media.source import Source


def source(path):
    """All bytes of a file."""
    return Source(str(path), 0, path.stat().st_size)


def options(**changes):
    """A recipe's options for an expander."""
    # Small sudden changes amid stills are what these films are made of: to `adaptive` they would be cuts.
    scenes = {**to_dict(ScenesConfig("content")), **changes.pop("scenes", {})}
    return {**to_dict(DecodeConfig()), **changes, "scenes": scenes}


def read(path, limits=None):
    """(facts, times of the frames) of a whole video, whose length is checked."""
    moving = open_moving(source(path), limits or Limits())
    try:
        times = [decoded.time_s for decoded in moving.frames()]
        moving.check_length()
    finally:
        moving.close()
    return moving.facts, times


def expand(path, **changes):
    """(samples with their arrays, the item) as curation's expander gives them."""
    expander = image if kind_of(source(path)) == "image" else video
    messages = list(expander.expand(source(path), options(**changes)))
    return [message for message in messages if message[0]["type"] == "sample"], messages[-1][0]


def first_picture(path):
    """The first frame of a video at its displayed size, as tokens are made of it."""
    moving = open_moving(source(path), Limits())
    try:
        decoded = next(iter(moving.frames()))
        return Renderer().upright(decoded, decoded.look.width, decoded.look.height, "bicubic")
    finally:
        moving.close()


def near(colours, expected, most=6):
    """Whether colours are the expected ones, give or take what an encoder changes."""
    return np.abs(np.array(colours, int) - np.array(expected, int)).max() <= most
