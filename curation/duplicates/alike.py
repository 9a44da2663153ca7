"""Key frames that look like an earlier one of their video, or like one of another video.

Emu3.5 (section 3.1.1) leaves near-equal key frames out by DINO's and FG-CLIP's features, with bounds that it does not
disclose. Here their PDQ hashes are compared, by the bound that PDQ's authors recommend for a match.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelmill.curation.duplicates.looks import has_detail
from reelmill.curation.duplicates.pdq import Hashes
from reelmill.curation.duplicates.search import HashTables

BITS = 31
"""Bits in which the hashes of two frames that look alike differ, at most, of 256."""
VIDEOS = 8
"""Other videos that are named for one key frame, at most, the nearest first."""
_BATCH = 1024


@dataclass(frozen=True)
class Shown:
    """Key frames of many videos, a row each: `items` int64 [N] numbers the videos, `times` float64 [N] are seconds."""

    items: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    hashes: Hashes


def alike(shown: Shown, asked: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
    """(key frame, the one that it looks like, bits) of those `asked`, looked for `among` all [N].

    Of its own video a key frame has at most one, the earliest, and that is earlier than it; of others one each, the
    nearest. Frames with too little detail look like nothing.
    """
    detail = has_detail(shown.hashes)
    entries, queries = np.flatnonzero(detail & among), np.flatnonzero(detail & asked)
    if not len(entries) or not len(queries):
        return
    tables = HashTables(shown.hashes[entries])
    for start in range(0, len(queries), _BATCH):
        batch = queries[start : start + _BATCH]
        found, places, bits = tables.near(shown.hashes[batch], BITS)
        yield from _chosen(shown, batch[found], entries[places], bits)


def _chosen(
    shown: Shown, frames: npt.NDArray[np.int64], others: npt.NDArray[np.int64], bits: npt.NDArray[np.int64]
) -> Iterator[tuple[int, int, int]]:
    is_own = shown.items[frames] == shown.items[others]
    is_before = shown.times[others] < shown.times[frames]
    earliest = np.lexsort((shown.times[others], frames))
    for place in _first_of(earliest[(is_own & is_before)[earliest]], frames):
        yield int(frames[place]), int(others[place]), int(bits[place])
    nearest = np.lexsort((shown.times[others], shown.items[others], bits, frames))
    named: dict[int, set[int]] = {}
    for place in nearest[~is_own[nearest]]:
        frame, video = int(frames[place]), int(shown.items[others[place]])
        videos = named.setdefault(frame, set())
        if video not in videos and len(videos) < VIDEOS:
            videos.add(video)
            yield frame, int(others[place]), int(bits[place])


def _first_of(places: npt.NDArray[np.int64], frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first place of each frame; places are sorted by frame."""
    _, first = np.unique(frames[places], return_index=True)
    return places[first]
