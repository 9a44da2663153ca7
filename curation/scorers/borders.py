"""Bars and margins around the picture, with the box that training may crop to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from reelmill.curation.borders import content_box
from reelmill.curation.interfaces import Sample, Scorer


class Borders(Scorer):
    """`border_share`: share of the frame that is bars or margins of one color, 0 where there are none; `crop_left`,
    `crop_top`, `crop_right`, `crop_bottom`: the picture within, as shares of the sides, right and bottom exclusive.
    """

    columns: ClassVar = {
        "border_share": "DOUBLE",
        "crop_left": "DOUBLE",
        "crop_top": "DOUBLE",
        "crop_right": "DOUBLE",
        "crop_bottom": "DOUBLE",
    }

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample; None without frames."""
        return [self._box(sample) for sample in samples]

    def _box(self, sample: Sample) -> dict[str, float | None]:
        if not len(sample.frames.images):
            return dict.fromkeys(self.columns)
        box = content_box(sample.frames.images)
        sides = {f"crop_{side}": float(value) for side, value in box._asdict().items()}
        return {"border_share": float(1 - box.area), **sides}
