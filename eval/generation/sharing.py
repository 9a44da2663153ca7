"""What rows of a cache begin with alike, so that it is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Opening:
    """What a new row of a cache needs: room for `tokens` tokens; the first `count` are those of row `source`."""

    tokens: int
    source: int = 0
    count: int = 0


def openings(
    prompts: Sequence[Tokens], most: Sequence[int], unread: int, held: Sequence[Tokens], chunk: int
) -> list[Opening]:
    """The openings of the rows of a sequence, behind rows that hold the tokens `held`.

    Each row reads its prompt but for the last `unread` tokens, and holds at `most` so many. It takes over all that it
    reads, as for several pictures of one prompt, or whole chunks: either is to the bit what it would have read itself,
    whatever else is in the batch.
    """
    held = list(held)
    found = []
    for prompt, tokens in zip(prompts, most, strict=True):
        reading = prompt[: len(prompt) - unread]
        source, count = 0, 0
        for row, before in enumerate(held):
            same = common(reading, before)
            kept = same if same == len(reading) else same // chunk * chunk
            if kept > count:
                source, count = row, kept
        found.append(Opening(tokens, source, count))
        held.append(reading)
    return found


def common(some: Tokens, others: Tokens) -> int:
    """How many tokens two sequences begin with alike."""
    length = min(len(some), len(others))
    differ = np.flatnonzero(some[:length] != others[:length])
    return int(differ[0]) if len(differ) else length
