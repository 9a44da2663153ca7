"""Which documents an epoch has, in which order their row groups are read, and how far they are shuffled.

**Shares.** Each run folder is an endless stream: all its documents, pass after pass, the row groups of each pass in a
new random order. An epoch takes the next stretch of every stream. Its length in tokens is the folder's share of what
all folders hold together; without shares it is the folder itself, so that each document comes once an epoch. A folder
that is to give more than it has comes round again within the epoch; of one that is to give less the next epochs take
what follows, and no document comes twice before all have come.

**Windows.** A document cannot be read without its row group. So an epoch is cut into windows of as many row groups as
the memory for them holds, documents are shuffled and packed within a window, and every row group is decoded once or
twice an epoch. Each window has its proportion of every folder. A corpus that fits is one window: a shuffle of all.
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
    """The documents of one run folder. tokens, block: int64 [documents], what each counts, and its row group."""

    documents: Ints
    tokens: Ints
    block: Ints


def stretches(supplies: Sequence[int], shares: Sequence[float]) -> list[int]:
    """The tokens that an epoch takes of each stream: by `shares`, of as many as the supplies are together.

    Raises ConfigError for shares that are no shares, DataError for a stream that is to give what it has not.
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
    wanted: Sequence[int],
    epoch: int,
    block_tokens: Ints,
    most_tokens: int,
    random: Callable[[int, int], np.random.Generator],
) -> list[Ints]:
    """The documents of each window of an epoch, in rising order; one that comes twice in a window stands there twice.

    `wanted`: tokens of each stream's stretch; `block_tokens`: what each row group holds; `most_tokens`: what the row
    groups of a window hold, about. `random(stream, pass)` gives the numbers that order a pass.
    """
    taken = [
        _stretch(stream, want, epoch, partial(random, number))
        for number, (stream, want) in enumerate(zip(streams, wanted, strict=True))
    ]
    load = sum(int(block_tokens[blocks].sum()) for *_, blocks in taken)
    count = max(1, -(-load // most_tokens))
    parts: list[list[Ints]] = [[] for _ in range(count)]
    for (documents, place, _), want in zip(taken, wanted, strict=True):
        window = place * count // max(1, want)
        edges = np.searchsorted(window, np.arange(count + 1))
        for number, part in enumerate(parts):
            part.append(documents[edges[number] : edges[number + 1]])
    return [np.sort(np.concatenate(part)) for part in parts]


def _stretch(stream: Stream, want: int, epoch: int, random: Callable[[int], np.random.Generator]) -> tuple[Ints, ...]:
    """(documents, place of each in the stretch, in tokens and rising; row groups to decode, once a pass each)."""
    supply = int(stream.tokens.sum())
    documents, places, blocks = [], [], []
    for number in range(epoch * want // supply, -(-((epoch + 1) * want) // supply)) if supply else ():
        order = _pass_order(stream, random(number))
        before = np.minimum(np.cumsum(stream.tokens[order]) - stream.tokens[order], supply - 1)
        place = number * supply - epoch * want + before
        inside = (place >= 0) & (place < want)
        documents.append(stream.documents[order][inside])
        places.append(place[inside])
        blocks.append(np.unique(stream.block[order][inside]))
    empty = np.empty(0, dtype=np.int64)
    return tuple(np.concatenate([empty, *parts]) for parts in (documents, places, blocks))


def _pass_order(stream: Stream, random: np.random.Generator) -> Ints:
    """The stream's documents by row group, the row groups in random order."""
    blocks, which = np.unique(stream.block, return_inverse=True)
    order: Ints = np.argsort(random.permutation(len(blocks))[which], kind="stable")
    return order
