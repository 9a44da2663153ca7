"""How samples look, as their columns `phash` and `thumbnail` say: hashes of all frames, thumbnails of some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelmill.curation.duplicates.pdq import BYTES, SIDE, Hashes

THUMBNAILS = 8
"""Thumbnails of a clip, at most."""


@dataclass(frozen=True)
class Hashed:
    """The frames of many samples: `owners` int64 [M] numbers the samples, `places` int64 [M] their frames."""

    owners: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    hashes: Hashes

    def among(self, is_wanted: npt.NDArray[np.bool_]) -> Hashed:
        """Those of some samples, which are numbered anew."""
        chosen = is_wanted[self.owners]
        numbers = np.cumsum(is_wanted) - 1
        return Hashed(numbers[self.owners[chosen]], self.places[chosen], self.hashes[chosen])

    def of(self, owner: int) -> Hashes:
        """All hashes of one sample; owners are in order."""
        first, last = np.searchsorted(self.owners, [owner, owner + 1])
        return self.hashes[first:last]


def hashed(phashes: Sequence[str]) -> Hashed:
    """Hashes of samples in order, from their columns."""
    data = [bytes.fromhex(text) for text in phashes]
    counts = [len(found) // BYTES for found in data]
    places = np.concatenate([np.arange(count) for count in counts]) if counts else np.zeros(0, np.int64)
    found = np.frombuffer(b"".join(data), np.uint8).reshape(-1, BYTES)
    return Hashed(np.repeat(np.arange(len(data)), counts), places, found)


def thumbnails(text: str) -> npt.NDArray[np.uint8]:
    """Thumbnails [K, 64, 64] of a sample."""
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, SIDE, SIDE)


def shown(frames: int) -> range:
    """The frames of which a sample has thumbnails: the first and every n-th, at most THUMBNAILS."""
    return range(0, frames, -(-frames // THUMBNAILS))


def has_detail(found: Hashes) -> npt.NDArray[np.bool_]:
    """Which hashes [..., 32] are evidence: the others are zero."""
    return np.asarray(found.any(axis=-1))
