"""A scorer that says which colours the corners of a sample's first frame have: what curation saw, in columns."""

from typing import Any, ClassVar

from odd_media import corners_of

from reelmill.curation.interfaces import Scorer

CORNER_COLUMNS = tuple(f"{corner}_{value}" for corner in ("tl", "tr", "bl", "br") for value in "rgb")


class Corners(Scorer):
    """Red, green and blue of the four corners."""

    columns: ClassVar = dict.fromkeys(CORNER_COLUMNS, "BIGINT")

    def score(self, samples) -> list[dict[str, Any]]:
        """One dict a sample."""
        found = []
        for sample in samples:
            values = [value for corner in corners_of(sample.frames.images[0]) for value in corner]
            found.append(dict(zip(CORNER_COLUMNS, values, strict=True)))
        return found
