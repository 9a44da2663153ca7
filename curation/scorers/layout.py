"""Layout: pictures that are made to be read - documents, tables, charts, screens - apart from those of the world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from reelmill.curation.interfaces import Sample, Scorer

COLORS = 4
"""So many colors fill most of what was drawn: a ground, an ink, and one or two more."""
DRAWN = 0.6
"""Share of the picture in those colors from which on it was drawn. Pages have 0.87 and more, photographs 0.2 to 0.4."""
LEAST_BOXES, LEAST_AREA = 4, 0.02
"""Lines of text, and their share of the picture, that it has at least. A caption over a photograph is one or two."""


class Layout(Scorer):
    """`palette_share`: share of the picture in its four most frequent colors, of 16 levels a channel; `picture_class`:
    `text_rich` or `picture`, None where no scorer before this one has looked for text.

    The bounds are ours (tests/curation/test_scorers_layout.py). Where text lies is scorer `text`'s to say.
    """

    columns: ClassVar = {"palette_share": "DOUBLE", "picture_class": "VARCHAR"}
    kinds: ClassVar = ("image",)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample; None without frames."""
        return [self._score(sample) for sample in samples]

    def _score(self, sample: Sample) -> dict[str, Any]:
        if not len(sample.frames.images):
            return dict.fromkeys(self.columns)
        share = palette_share(sample.frames.images[0])
        boxes, area = (sample.columns.get(name) for name in ("text_boxes", "text_area"))
        if boxes is None or area is None:
            return {"palette_share": share, "picture_class": None}
        is_read = share >= DRAWN and boxes >= LEAST_BOXES and area >= LEAST_AREA
        return {"palette_share": share, "picture_class": "text_rich" if is_read else "picture"}


def palette_share(image: npt.NDArray[np.uint8]) -> float:
    """Share of an RGB image [H, W, 3] in its COLORS most frequent colors."""
    levels = (image >> 4).astype(np.int32)
    counts = np.bincount((levels @ np.array([256, 16, 1], np.int32)).ravel(), minlength=16**3)
    return float(np.sort(counts)[-COLORS:].sum() / counts.sum())
