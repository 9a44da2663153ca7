"""Whether two clips show the same for a while: their frames laid beside each other at the best shift in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reelmill.curation.duplicates.config import CANDIDATES
from reelmill.curation.duplicates.looks import has_detail
from reelmill.curation.duplicates.pdq import Hashes, distances

FEWEST = 3
"""Frames that have to agree, at least."""
SHARE = 0.5
"""Share of the shorter clip that both have to show."""


@dataclass(frozen=True)
class Alignment:
    """`shift`: frames of the copy before its first is the original's; `similarity`: share of the common ones alike."""

    shift: int
    similarity: float


def align(variant: Hashes, shown: range, copy: Hashes, shift: int, radius: int) -> Alignment | None:
    """Compare frames of an original, seen through one window, with those of a copy `shift` frames later.

    `variant` [K, 32] hashes the frames `shown` of the original. `copy` [N, 32] hashes all of the copy's. A frame may be
    one place off: copies at other rates are sampled at other times. None where they do not show the same: fewer than
    three frames, less than half of the shorter clip, or too few frames alike.
    """
    best = None
    for moved in (shift - 1, shift, shift + 1):
        found = _at(variant, shown, copy, moved, radius)
        if found is not None and (best is None or found.similarity > best.similarity):
            best = found
    return best


def _at(variant: Hashes, shown: range, copy: Hashes, shift: int, radius: int) -> Alignment | None:
    places = np.array(shown) + shift
    is_common = (places >= 0) & (places < len(copy))
    is_evidence = is_common.copy()
    is_evidence[is_common] = has_detail(copy[places[is_common]]) & has_detail(variant[is_common])
    frames = int(np.count_nonzero(is_evidence))
    common_frames = int(np.count_nonzero(is_common)) * shown.step
    if frames < FEWEST or common_frames < SHARE * min(shown.stop, len(copy)):
        return None
    apart = np.stack(
        [
            distances(variant[is_evidence], copy[np.clip(places[is_evidence] + near, 0, len(copy) - 1)])
            for near in (-1, 0, 1)
        ]
    ).min(axis=0)
    alike = float(np.mean(apart <= radius))
    return Alignment(shift, alike) if alike >= CANDIDATES else None
