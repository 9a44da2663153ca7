"""Pairs of texts that share most of their words, by the column `minhash` (`curation/scorers/minhash.py`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from reelmill.curation.duplicates.clusters import CROWD
from reelmill.curation.duplicates.config import CANDIDATES
from reelmill.curation.duplicates.pair import Pair

PERMUTATIONS, BUCKETS = 112, 14


def text_pairs(sample_ids: Sequence[str], minhashes: Sequence[str], is_new: npt.NDArray[np.bool_]) -> Iterator[Pair]:
    """Pairs of which at least one text is new: those that agree in a bucket, with the share of all 112 values.

    `similarity` estimates the Jaccard similarity of their sets of five words in a row. A bucket of more texts than
    CROWD has pairs with its first alone.
    """
    if not minhashes:
        return
    values, buckets = _columns(minhashes)
    found: set[tuple[int, int]] = set()
    for bucket in range(BUCKETS):
        order = np.argsort(buckets[:, bucket], kind="stable")
        keys = buckets[order, bucket]
        begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1], [True]]))
        for first, last in itertools.pairwise(begins.tolist()):
            if last - first > 1:
                members = sorted(order[first:last].tolist())
                heads = members if len(members) <= CROWD else members[:1]
                found |= {(a, b) for a in heads for b in members if a < b and (is_new[a] or is_new[b])}
    for a, b in sorted(found):
        similarity = float(np.mean(values[a] == values[b]))
        if similarity >= CANDIDATES:
            yield Pair(sample_ids[a], sample_ids[b], similarity, "minhash")


def _columns(minhashes: Sequence[str]) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint64]]:
    """[N, 112] the values' last 16 bits, and [N, 14] the buckets."""
    data = np.frombuffer(bytes.fromhex("".join(minhashes)), np.uint8).reshape(len(minhashes), -1)
    values = np.ascontiguousarray(data[:, : 2 * PERMUTATIONS]).view("<u2")
    return values.astype(np.uint16), np.ascontiguousarray(data[:, 2 * PERMUTATIONS :]).view("<u8").astype(np.uint64)
