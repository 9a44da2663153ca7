"""Which documents an epoch has, in which order their row groups are read, and how far they are shuffled.

**Shares.** Each run folder is an endless stream: all its documents, pass after pass, the row groups of each pass in a
new random order. An epoch takes a quota of tokens from every stream, where the last epoch stopped. The quota is the
folder's share of all tokens in all folders. Without shares it is the folder's own size, so each document comes once per
epoch. A folder whose quota exceeds its size repeats within the epoch. A folder whose quota is smaller continues in the
next epochs, and no document comes twice before all have come once.

**Windows.** A document cannot be read without its row group. So an epoch is split into windows of as many row groups as
fit in the memory set aside for them. Documents are shuffled and packed within a window, and every row group is decoded
once or twice per epoch. Each window has its proportion of every folder. A corpus that fits is one window: a full
shuffle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from reelmill.errors import ConfigError, DataError
from reelmill.train.data.binpacking import Ints


@dataclass(frozen=True)
class Stream:
    """The documents of one run folder. tokens, row_group_id: int64 [documents], what each counts, and its row group."""

    documents: Ints
    tokens: Ints
    row_group_id: Ints


def epoch_quotas(supplies: Sequence[int], shares: Sequence[float]) -> list[int]:
    """The tokens that an epoch takes from each stream: its share of the sum of all supplies, in tokens.

    Raises ConfigError for shares that are not positive numbers, one per stream, and DataError for an empty stream that
    has a share.
    """
    if not shares:
        return list(supplies)
    if len(shares) != len(supplies) or not all(0 < share < float("inf") for share in shares):
        raise ConfigError(
            f"data.shares is {list(shares)} for {len(supplies)} run folders; it is one positive number for each."
        )
    empty = [number for number, supply in enumerate(supplies) if not supply]
    if empty:
        raise DataError(
            f"run folder {empty[0] + 1} is to give {shares[empty[0]]:g} but has no documents to train on; leave it out."
        )
    return [max(1, round(sum(supplies) * share / sum(shares))) for share in shares]


def windows(
    streams: Sequence[Stream],
    quotas: Sequence[int],
    epoch: int,
    row_group_tokens: Ints,
    most_tokens: int,
    random: Callable[[int, int], np.random.Generator],
) -> list[Ints]:
    """The documents of each window of an epoch, in rising order; one that comes twice in a window stands there twice.

    `quotas`: tokens to take from each stream; `row_group_tokens`: ids in each row group; `most_tokens`: about how many
    ids the row groups of a window hold. `random(stream, pass)` gives the generator that orders a pass.
    """
    taken = [
        _take_quota(stream, want, epoch, partial(random, number))
        for number, (stream, want) in enumerate(zip(streams, quotas, strict=True))
    ]
    load = sum(int(row_group_tokens[row_groups].sum()) for *_, row_groups in taken)
    count = max(1, -(-load // most_tokens))
    parts: list[list[Ints]] = [[] for _ in range(count)]
    for (documents, place, _), want in zip(taken, quotas, strict=True):
        window = place * count // max(1, want)
        edges = np.searchsorted(window, np.arange(count + 1))
        for number, part in enumerate(parts):
            part.append(documents[edges[number] : edges[number + 1]])
    return [np.sort(np.concatenate(part)) for part in parts]


def _take_quota(
    stream: Stream, quota: int, epoch: int, random: Callable[[int], np.random.Generator]
) -> tuple[Ints, ...]:
    """(documents, the position of each in the quota in tokens, rising; row groups to decode, once per pass)."""
    supply = int(stream.tokens.sum())
    documents, places, row_groups = [], [], []
    for number in range(epoch * quota // supply, -(-((epoch + 1) * quota) // supply)) if supply else ():
        order = _pass_order(stream, random(number))
        before = np.minimum(np.cumsum(stream.tokens[order]) - stream.tokens[order], supply - 1)
        place = number * supply - epoch * quota + before
        inside = (place >= 0) & (place < quota)
        documents.append(stream.documents[order][inside])
        places.append(place[inside])
        row_groups.append(np.unique(stream.row_group_id[order][inside]))
    empty = np.empty(0, dtype=np.int64)
    return tuple(np.concatenate([empty, *parts]) for parts in (documents, places, row_groups))


def _pass_order(stream: Stream, random: np.random.Generator) -> Ints:
    """The stream's documents by row group, the row groups in random order."""
    row_groups, which = np.unique(stream.row_group_id, return_inverse=True)
    order: Ints = np.argsort(random.permutation(len(row_groups))[which], kind="stable")
    return order
