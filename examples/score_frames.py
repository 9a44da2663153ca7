"""Call scorers, and one of one's own, on NumPy frames: python score_frames.py"""

import numpy as np

import reelmill
from reelmill.curation.interfaces import Scorer

noise = np.random.default_rng(0).integers(0, 256, (120, 200), dtype=np.uint8)
clip = np.stack([np.roll(noise, 4 * n, axis=1) for n in range(48)])[..., None].repeat(3, axis=-1)  # two seconds

print(reelmill.score(clip, ["quality", "motion_dis", "motion_jitter"], fps=24.0))
print(reelmill.score(clip[:1], ["quality", "colourfulness"]))  # an image


class Brightness(Scorer):
    """Mean of all pixels, 0 to 255."""

    columns = {"brightness": "DOUBLE"}

    def score(self, samples):
        return [{"brightness": float(sample.frames.images.mean())} for sample in samples]


print(reelmill.score(clip, [Brightness()], fps=24.0))
