"""Rows of a picture decoded side by side, each some codes behind the one above it: approximate, without training.

A code is sampled as soon as the row above is `lag` codes ahead of it; all rows that can go on do so in one pass. What
has not been sampled yet is absent from what a code attends to, so the law is not that of plain decoding, which a lag of
a whole row is. A row starts from the end of the row above, which is known (He et al. 2024, ZipAR, arXiv 2412.04062).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from reelmill.errors import ConfigError
from reelmill.eval.generation.cache import KVCache
from reelmill.eval.generation.logits import guided_logits
from reelmill.eval.generation.request import ActiveSequence, Picture
from reelmill.eval.generation.sampling import sample
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder

LAG = 16
"""The released code's, for pictures of 24 to 90 codes a row."""


@dataclass(frozen=True)
class ByRows:
    """Each row is `lag` codes behind the one above it; None: 16, and a quarter of a row where that is less."""

    lag: int | None = None

    def check(self) -> None:
        """Raise ConfigError for a number that means nothing."""
        if self.lag is not None and self.lag < 1:
            raise ConfigError(f"--lag is {self.lag}; a row is at least 1 code behind the one above it.")


class RowPass(NamedTuple):
    """A pass: the places of the tokens that it reads, of those that predict (counted among the former), and of the
    codes that they predict."""

    reads: list[int]
    predicting: list[int]
    codes: list[int]


class RowDecoder:
    """Draws the pictures of sequences, whose rows of `cache` hold the tokens before the picture's IMG."""

    def __init__(self, model: Decoder, vocab: Vocabulary, cache: KVCache, how: ByRows) -> None:
        how.check()
        self.model, self.vocab, self.cache, self.lag = model, vocab, cache, how.lag

    def begin(self, sequence: ActiveSequence) -> None:
        """Start the picture or video that the sequence is in the middle of, if there is one; known codes stay."""
        sequence.begin_picture(self.cache.device)

    def advance(self, sequences: Sequence[ActiveSequence], first: int) -> None:
        """One pass over pictures of one `group`, of sequences whose rows follow each other from row `first` on."""
        pictures = [sequence.picture for sequence in sequences if sequence.picture]
        plan = self._plan(pictures[0])
        now, device = plan[pictures[0].step], self.cache.device
        size = len(pictures[0].ids)
        reads = torch.tensor(now.reads, device=device)
        is_read = torch.zeros(size, dtype=torch.bool, device=device)
        is_read[[place for earlier in plan[: pictures[0].step + 1] for place in earlier.reads]] = True
        seen = is_read & (torch.arange(size, device=device) <= reads[:, None])
        ids = torch.stack([s.picture.ids[reads] for s in sequences if s.picture for _ in range(s.rows)])
        positions = self.cache.reserve_at(slice(first, first + len(ids)), reads, seen)
        hidden = self.model(ids, positions, cache=self.cache)[:, now.predicting]
        sample_codes(self.model, self.vocab, sequences, hidden, now.codes)

    def passes(self, picture: Picture) -> int:
        """How many it takes in all."""
        return len(self._plan(picture))

    def undrawn(self, picture: Picture) -> list[int]:
        """The places of codes that are not drawn yet."""
        return [code for now in self._plan(picture)[picture.step :] for code in now.codes]

    def group(self, picture: Picture) -> Hashable:
        """Pictures of equal groups take the same pass next."""
        return (tuple(picture.free.tolist()), len(picture.ids), picture.step)

    def _plan(self, picture: Picture) -> list[RowPass]:
        return row_passes(tuple(picture.free.tolist()), self.lag)


def sample_codes(
    model: Decoder, vocab: Vocabulary, sequences: Sequence[ActiveSequence], hidden: Tensor, codes: Sequence[int]
) -> None:
    """Draw the codes at the places `codes` of the sequences' pictures, and count the pass.

    `hidden` [rows, codes, hidden]: the states that predict them, of all rows of the sequences in order.
    """
    row = 0
    for sequence in sequences:
        picture, request = sequence.picture, sequence.request
        assert picture is not None
        states = hidden[row : row + sequence.rows].flatten(0, 1)
        logits = guided_logits(model.lm_head, states, ((vocab.vision_start, vocab.vision_stop),), request.scales)
        uniforms = torch.tensor(sequence.uniforms(len(codes)), device=logits.device)
        picture.ids[codes] = vocab.vision_start + sample(logits, request.sampling.vision, uniforms)
        picture.step += 1
        row += sequence.rows


@lru_cache(maxsize=64)
def row_passes(free: tuple[int, ...], lag: int | None = None) -> list[RowPass]:
    """All passes over a picture or video whose codes stand at the places `free`; tokens between them are known.

    Rows are apart by one known token, an end of a row. The first row of a frame is two apart from the frame before, and
    waits for all of it.
    """
    starts = [free[0], *(b for a, b in pairwise(free) if b > a + 1)]
    stops = [*(a + 1 for a, b in pairwise(free) if b > a + 1), free[-1] + 1]
    width = max(stop - start for start, stop in zip(starts, stops, strict=True))
    lag = min(LAG, -(-width // 4)) if lag is None else lag
    done, passes = list(starts), list[RowPass]()
    last_codes: list[int] = []
    while done != stops:
        now = RowPass(last_codes, [], [])  # they predict what is known, and the rows below see them
        before, last_codes = list(done), []
        for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            at = before[row]
            if at == stop:
                continue
            if row:
                waits = starts[row] - stops[row - 1] > 1
                ahead = stops[row - 1] if waits else min(stops[row - 1], starts[row - 1] + at - start + lag)
                if before[row - 1] < ahead:
                    continue
            if at == start:  # what is known before it, from the end of the row above on
                now.reads.extend(range(stops[row - 1] if row else 0, start))
            else:
                now.reads.append(at - 1)
            now.predicting.append(len(now.reads) - 1)
            now.codes.append(at)
            done[row] += 1
            if done[row] == stop:
                last_codes.append(at)
        passes.append(now)
    return passes
