"""Perceptual hashes and thumbnails, by which copies are found among all samples (`curation/duplicates`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from reelmill.curation.borders import content_box, cropped
from reelmill.curation.duplicates import looks
from reelmill.curation.duplicates.pdq import BYTES, detail, pdq, shrunk
from reelmill.curation.interfaces import Sample, Scorer

DETAIL = 50
"""PDQ's own bound: a hash of a picture with less detail is no evidence."""


class PerceptualHash(Scorer):
    """`phash`: PDQ of each sampled frame without its borders, hex digits; `thumbnail`: small pictures of some of them.

    A frame with too little detail has zeros. Thumbnails are luma of 64 x 64, hex digits, of up to 8 frames spread
    evenly: the first, and every n-th after it.
    """

    columns: ClassVar = {"phash": "VARCHAR", "thumbnail": "VARCHAR"}

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample; None without frames."""
        return [self._look(sample.frames.images) for sample in samples]

    def _look(self, images: npt.NDArray[np.uint8]) -> dict[str, str | None]:
        if not len(images):
            return {"phash": None, "thumbnail": None}
        pictures = cropped(images, content_box(images))
        small = [shrunk(picture) for picture in pictures]
        found = [pdq(luma) if detail(luma) >= DETAIL else np.zeros(BYTES, np.uint8) for luma in small]
        shown = np.stack([small[place] for place in looks.shown(len(small))])
        return {"phash": np.stack(found).tobytes().hex(), "thumbnail": np.rint(shown).astype(np.uint8).tobytes().hex()}
