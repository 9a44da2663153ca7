"""Pairs of copies among samples: pictures and clips, each against everything there is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelmill.curation.duplicates import looks, pdq
from reelmill.curation.duplicates.clips import align
from reelmill.curation.duplicates.config import CANDIDATES
from reelmill.curation.duplicates.pair import Pair
from reelmill.curation.duplicates.pdq import Hashes
from reelmill.curation.duplicates.pictures import agreement
from reelmill.curation.duplicates.search import HashTables
from reelmill.curation.duplicates.windows import VARIANTS, WINDOWS, transforms, variants

RADIUS = 64
"""Bits in which the hash of a copy differs, at most, from that of the part of the original that it shows."""


@dataclass(frozen=True)
class Look:
    """A sample with all that is compared: its hashes [N, 32] and thumbnails [K, 64, 64]."""

    sample_id: str
    hashes: Hashes
    thumbnails: npt.NDArray[np.uint8]


class Copies:
    """All samples of one kind, by their hashes; asked which of them are copies of a sample.

    `with_asked`: those that are asked about are among them, and none is a copy of itself.
    """

    def __init__(self, sample_ids: Sequence[str], hashed: looks.Hashed, *, with_asked: bool = True) -> None:
        self._sample_ids, self._with_asked = sample_ids, with_asked
        self._hashed = hashed
        self._evidence = np.flatnonzero(looks.has_detail(hashed.hashes))
        self._tables = HashTables(hashed.hashes[self._evidence])

    def candidates(self, asked: Sequence[Look]) -> Iterator[tuple[int, int, Counter[tuple[int, int]]]]:
        """(which of `asked`, which sample, votes for (variant, shift)) where some frame is near."""
        counts = [len(look.thumbnails) for look in asked]
        if not sum(counts) or not len(self._evidence):
            return
        every = transforms(np.concatenate([look.thumbnails for look in asked]))
        hashes = pdq.hashes(every)
        hashes[~np.concatenate([_shown_detail(look) for look in asked])] = 0
        queries = hashes.reshape(-1, pdq.BYTES)
        is_evidence = np.flatnonzero(looks.has_detail(queries))
        margins = pdq.margins(every).reshape(len(queries), -1)[is_evidence]
        found, entries, _ = self._tables.near(queries[is_evidence], RADIUS, margins)
        thumbnail, variant = np.divmod(is_evidence[found], len(VARIANTS))
        entries = self._evidence[entries]
        look, first = np.repeat(np.arange(len(asked)), counts), np.repeat(np.cumsum(counts) - counts, counts)
        steps = np.array([_shown(look).step for look in asked])
        shifts = self._hashed.places[entries] - (thumbnail - first[thumbnail]) * steps[look[thumbnail]]
        votes: dict[tuple[int, int], Counter[tuple[int, int]]] = defaultdict(Counter)
        for a, b, v, s in zip(look[thumbnail], self._hashed.owners[entries], variant, shifts, strict=True):
            votes[int(a), int(b)][int(v), int(s)] += 1
        for (a, b), counted in sorted(votes.items()):
            if not self._with_asked or asked[a].sample_id != self._sample_ids[b]:
                yield a, b, counted

    def sample_id(self, owner: int) -> str:
        """Of a sample by its number."""
        return self._sample_ids[owner]

    def hashes(self, owner: int) -> Hashes:
        """Of a sample by its number."""
        return self._hashed.of(owner)


def clip_pairs(copies: Copies, asked: Sequence[Look]) -> Iterator[Pair]:
    """Pairs of clips: frames agree one after another, at one shift in time and through one window."""
    for a, b, votes in copies.candidates(asked):
        look = asked[a]
        seen = variants(look.thumbnails)
        seen[~_shown_detail(look)] = 0
        found = [
            align(seen[:, variant], _shown(look), copies.hashes(b), shift, RADIUS)
            for (variant, shift), _ in votes.most_common(4)
        ]
        if best := max((one.similarity for one in found if one is not None), default=None):
            yield Pair(look.sample_id, copies.sample_id(b), best, "pdq_frames")


def picture_pairs(
    copies: Copies, asked: Sequence[Look], thumbnails: Callable[[list[str]], Mapping[str, npt.NDArray[np.uint8]]]
) -> Iterator[Pair]:
    """Pairs of pictures, each verified: laid over each other their blocks are the same.

    `thumbnails` gives those of samples by id.
    """
    found = list(copies.candidates(asked))
    known = thumbnails(sorted({copies.sample_id(b) for _, b, _ in found}))
    for a, b, votes in found:
        look, other = asked[a], copies.sample_id(b)
        similarity = max(
            agreement(look.thumbnails[0], known[other][0], WINDOWS[VARIANTS[variant][0]], VARIANTS[variant][1])
            for (variant, _), _ in votes.most_common(2)
        )
        if similarity >= CANDIDATES:
            yield Pair(look.sample_id, other, similarity, "pdq")


def best_of(pairs: Iterable[Pair]) -> list[Pair]:
    """Each pair once, with the smaller sample_id first, as similar as it was found either way."""
    best: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        first, second = sorted((pair.sample_id, pair.other_id))
        known = best.get((first, second))
        if known is None or known.similarity < pair.similarity:
            best[first, second] = Pair(first, second, pair.similarity, pair.method)
    return [best[key] for key in sorted(best)]


def _shown(look: Look) -> range:
    return looks.shown(len(look.hashes))


def _shown_detail(look: Look) -> npt.NDArray[np.bool_]:
    """Which thumbnails are evidence: those of frames that are."""
    return looks.has_detail(look.hashes[list(_shown(look))])
