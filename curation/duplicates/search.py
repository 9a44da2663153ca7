"""Which hashes are near which, among millions: locality-sensitive hashing over the bits that copies share.

Low frequencies survive cropping and captions. Each table sorts all hashes by another draw of those bits, and compares
in full only what agrees in all of them (Gionis et al., "Similarity search in high dimensions via hashing", 1999).
Memory is that of the hashes, one table, and one bounded batch of pairs at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from reelmill.curation.duplicates.pdq import FREQUENCIES, Hashes, Luma, distances

TABLES = 24
LEAST_BITS, MOST_BITS = 14, 27
CROWDED = 4096
"""A key that more hashes share says nothing: they agree in it by being dull."""
BATCH = 2_000_000
DOUBTED = 3
"""Bits of a key that a query is asked with either way."""

Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]

_I, _J = np.divmod(np.arange(FREQUENCIES**2), FREQUENCIES)
_LOW = np.flatnonzero(_I + _J < 10)  # 55 of the lowest frequencies


class HashTables:
    """Hashes [N, 32], sorted by each table's bits: 192 bytes each, beside the hashes themselves."""

    def __init__(self, index: Hashes, tables: int = TABLES) -> None:
        self._index = index
        self._draws = _draws(len(index), tables)
        self._sorted = [_sorted(_keys(index, chosen)) for chosen in self._draws]

    def near(self, queries: Hashes, radius: int, margins: Luma | None = None) -> Pairs:
        """Pairs (query, entry, distance) of queries [Q, 32] and entries that differ in at most `radius` bits.

        Each pair once, in order. What is as near as a copy is found almost always, not always (docs/duplicates.md).
        `margins` [Q, 256], of bit n what it is from being the other: with them each table is asked for the DOUBTED
        bits of its key that are nearest to that either way.
        """
        found = _none()
        for chosen, (keys, order) in zip(self._draws, self._sorted, strict=True):
            for asked in _probes(_keys(queries, chosen), None if margins is None else margins[:, chosen]):
                first, last = np.searchsorted(keys, asked, "left"), np.searchsorted(keys, asked, "right")
                for query, place in _expanded(first, last):
                    entry = order[place].astype(np.int64)
                    apart = distances(queries[query], self._index[entry])
                    is_near = apart <= radius
                    found = _unique([found, (query[is_near], entry[is_near], apart[is_near])], len(self._index))
        return found


def _probes(keys: npt.NDArray[np.uint32], margins: Luma | None) -> Iterator[npt.NDArray[np.uint32]]:
    """The keys, and with margins [Q, bits] those in which some of the most doubtful bits are turned round (Lv et al.,
    "Multi-probe LSH", 2007)."""
    yield keys
    if margins is None:
        return
    doubtful = np.argpartition(margins, DOUBTED, axis=1)[:, :DOUBTED]
    flips = np.uint32(1) << (margins.shape[1] - 1 - doubtful).astype(np.uint32)
    for turned in range(1, 1 << DOUBTED):
        is_turned = np.array([turned >> n & 1 for n in range(DOUBTED)], bool)
        yield keys ^ np.bitwise_or.reduce(flips[:, is_turned], axis=1)


def _sorted(keys: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Keys in order, and the entries that they belong to."""
    order = np.argsort(keys, kind="stable")
    return keys[order], order.astype(np.uint32)


def _draws(entries: int, tables: int) -> list[npt.NDArray[np.int64]]:
    """The bits of each table: so many that few unrelated hashes agree in them."""
    bits = int(np.clip(np.ceil(np.log2(max(entries, 1))), LEAST_BITS, MOST_BITS))
    rng = np.random.default_rng(0)
    return [rng.choice(_LOW, bits, replace=False) for _ in range(tables)]


def _keys(hashes: Hashes, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """The chosen bits of each hash as one number."""
    keys = np.zeros(len(hashes), np.uint32)
    for bit in chosen:
        byte, shift = divmod(FREQUENCIES**2 - 1 - int(bit), 8)
        keys <<= 1
        keys |= (hashes[:, byte] >> (7 - shift)) & 1
    return keys


def _expanded(
    first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """(query, place) for each place from `first` to `last` of a query, in batches."""
    counts = last - first
    counts[counts > CROWDED] = 0
    some = np.flatnonzero(counts)
    ends = np.cumsum(counts[some])
    begin = 0
    while begin < len(some):
        done = int(ends[begin - 1]) if begin else 0
        end = max(int(np.searchsorted(ends, done + BATCH, "right")), begin + 1)
        chosen = some[begin:end]
        lengths = counts[chosen]
        starts = np.repeat(first[chosen] - (np.cumsum(lengths) - lengths), lengths)
        yield np.repeat(chosen, lengths), starts + np.arange(lengths.sum())
        begin = end


def _unique(found: list[Pairs], entries: int) -> Pairs:
    queries, places, apart = (np.concatenate(parts) for parts in zip(*found, strict=True))
    _, once = np.unique(queries * entries + places, return_index=True)
    return queries[once], places[once], apart[once]


def _none() -> Pairs:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)
