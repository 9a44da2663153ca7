"""Pictures drawn by diagonals, by a model with a second head that has learned it: H x W codes in H + W - 1 passes.

A pass reads the newest diagonal, each token seeing what was read so far and its own diagonal, and samples the next
one: each code from a mixture of what its left neighbor and the one above it predict, the codes of a diagonal
independently of each other (FlashAR, arXiv 2605.09430). `train/diagonals.py` says which tokens stand on a diagonal and
beside each code.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from reelmill.errors import ConfigError
from reelmill.eval.generation.cache import KVCache
from reelmill.eval.generation.request import ActiveSequence, Picture
from reelmill.eval.generation.row_decoding import sample_codes
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.diagonals import diagonals_of
from reelmill.train.model import Decoder


@dataclass(frozen=True)
class ByDiagonals:
    """Pictures are drawn by diagonals; there is nothing to choose."""


class DiagonalPass(NamedTuple):
    """A pass: the places of the tokens that it reads and of the codes that it draws; of each code, which of the tokens
    read stand to its `left` and `above` it (-1: none does).

    `groups`: of each token of the picture the group that it is read with. A token sees its group and those before.
    """

    reads: list[int]
    codes: list[int]
    left: list[int]
    above: list[int]
    groups: tuple[int, ...]


class DiagonalDecoder:
    """Draws the pictures of sequences, whose rows of `cache` hold the tokens before the picture's IMG."""

    def __init__(self, model: Decoder, vocab: Vocabulary, cache: KVCache) -> None:
        if model.vertical is None:
            raise ConfigError(
                "this model has no second head (model.vertical_layers is 0), so it cannot draw by diagonals; "
                "`reelmill train diagonal` makes one that has."
            )
        self.model, self.vocab, self.cache = model, vocab, cache

    def begin(self, sequence: ActiveSequence) -> None:
        """Start the picture or video that the sequence is in the middle of, if there is one; known codes stay."""
        sequence.begin_picture(self.cache.device)

    def advance(self, sequences: Sequence[ActiveSequence], first: int) -> None:
        """One pass over pictures of one `group`, of sequences whose rows follow each other from row `first` on."""
        pictures = [sequence.picture for sequence in sequences if sequence.picture]
        now, device = self._plan(pictures[0])[pictures[0].step], self.cache.device
        reads, left, above, groups = (
            torch.tensor(x, device=device) for x in (now.reads, now.left, now.above, now.groups)
        )
        ids = torch.stack([s.picture.ids[reads] for s in sequences if s.picture for _ in range(s.rows)])
        seen = groups <= groups[reads][:, None]
        positions = self.cache.reserve_at(slice(first, first + len(ids)), reads, seen)
        states = self.model.diagonal(ids, positions, left, above, cache=self.cache)
        sample_codes(self.model, self.vocab, sequences, states.mixed, now.codes)

    def passes(self, picture: Picture) -> int:
        """How many it takes in all."""
        return len(self._plan(picture))

    def undrawn(self, picture: Picture) -> list[int]:
        """The places of codes that are not drawn yet."""
        return [code for now in self._plan(picture)[picture.step :] for code in now.codes]

    def group(self, picture: Picture) -> Hashable:
        """Pictures of equal groups take the same pass next."""
        return (*self._shape(picture), picture.step)

    def _plan(self, picture: Picture) -> tuple[DiagonalPass, ...]:
        return diagonal_passes(self.vocab, *self._shape(picture))

    def _shape(self, picture: Picture) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Its tokens with all codes alike, and the places of those that are drawn."""
        return tuple(picture.ids.clamp(max=self.vocab.vision_start).tolist()), tuple(picture.free.tolist())


@lru_cache(maxsize=64)
def diagonal_passes(vocab: Vocabulary, ids: tuple[int, ...], free: tuple[int, ...]) -> tuple[DiagonalPass, ...]:
    """All passes over a picture or video of the tokens `ids`, whose codes at the places `free` are drawn.

    Known codes are read with their diagonals: a pass for each diagonal on which there is a code to draw.
    """
    found = diagonals_of(vocab, np.array(ids))
    groups, is_free = found.groups, np.isin(found.codes, free)
    passes, read = [], 0
    for group in np.unique(groups[list(free)]).tolist():
        reads = np.flatnonzero((groups >= read) & (groups < group))
        here = is_free & (groups[found.codes] == group)
        place = {int(token): number for number, token in enumerate(reads)}
        above = [place[token] if token >= 0 else -1 for token in found.above[here].tolist()]
        left = [place[token] for token in found.left[here].tolist()]
        codes = found.codes[here].tolist()
        passes.append(DiagonalPass(reads.tolist(), codes, left, above, tuple(groups.tolist())))
        read = group
    return tuple(passes)
