"""The table `embeddings`, and which vectors are nearest: exactly, a block at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

EMBEDDINGS = pa.schema(
    [
        ("unit", pa.int32()),
        ("sample_id", pa.string()),
        ("model", pa.string()),
        ("vector", pa.list_(pa.float16())),
    ]
)
"""One row per sample that has an embedding; vectors of unit length."""
BLOCK = 8192
"""Vectors that are compared at a time: of 2,048 numbers 64 MiB, and as much again for what they are compared with."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Block:
    """Some samples by id, and their vectors [N, D]."""

    sample_ids: Sequence[str]
    vectors: Vectors


def nearest(asked: Vectors, blocks: Iterable[Block], most: int) -> list[tuple[str, float]]:
    """The `most` samples whose vectors are nearest to one [D], with their cosines, nearest first; then by id."""
    best: list[tuple[str, float]] = []
    for block in blocks:
        cosines = block.vectors @ asked
        chosen = np.argsort(-cosines, kind="stable")[:most]
        best += [(block.sample_ids[place], float(cosines[place])) for place in chosen]
        best = sorted(best, key=lambda one: (-one[1], one[0]))[:most]
    return best


def close_pairs(asked: Block, blocks: Iterable[Block], least: float, most: int) -> Iterator[tuple[str, str, float]]:
    """(asked sample, other, cosine) of at least `least`, at most `most` others for each of a block, the nearest."""
    found: list[list[tuple[float, str]]] = [[] for _ in asked.sample_ids]
    for block in blocks:
        cosines = asked.vectors @ block.vectors.T
        for a, b in zip(*np.nonzero(cosines >= least), strict=True):
            if asked.sample_ids[a] != block.sample_ids[b]:
                found[a].append((-float(cosines[a, b]), block.sample_ids[b]))
        found = [sorted(near)[:most] for near in found]
    for sample_id, near in zip(asked.sample_ids, found, strict=True):
        yield from ((sample_id, other, -apart) for apart, other in near)
