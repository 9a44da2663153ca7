"""Pictures drawn all at once by a model that has learned DiDA: from noise, in a few passes over all of their codes.

A pass reads the whole picture behind the cached tokens before it, each token seeing all of the picture. Its output says
what each code is going to be; a sample of that is where the code is heading, and it moves there as far as the path from
noise says (`train/objectives/dida/path.py`). The last pass samples the codes themselves. After URSA (arXiv 2510.24717),
with the step's clock changed so that the first pass moves codes too.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation.cache import KVCache
from reelmill.eval.generation.coupling import probabilities
from reelmill.eval.generation.logits import guided_logits
from reelmill.eval.generation.request import ActiveSequence, Picture
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.categorical import choose
from reelmill.train.model import Decoder
from reelmill.train.objectives.dida.path import CHUNK, MetricPath, shifted

STEPS = 16
"""Passes of a picture where nothing else is asked for."""
GUIDED_UNTIL = 0.9
"""The time from which on guidance no longer applies (URSA's sampler)."""


@dataclass(frozen=True)
class Denoising:
    """How pictures are drawn: along the path that the model was trained on, in `steps` passes.

    `shift` over 1 spends more of them near noise; it is that of the training.
    """

    path: MetricPath
    steps: int = STEPS
    shift: float = 1.0

    def check(self, vocab: Vocabulary) -> None:
        """Raise ConfigError for numbers that mean nothing, DataError for the path of another codebook."""
        if self.steps < 1:
            raise ConfigError(f"--steps is {self.steps}; a picture takes at least 1.")
        if self.path.codes != vocab.codes:
            raise DataError(f"the path is one of {self.path.codes:,} codes; the model has {vocab.codes:,}.")

    @property
    def times(self) -> list[float]:
        """The time before each pass."""
        return shifted(torch.arange(self.steps, dtype=torch.float64) / self.steps, self.shift).tolist()


class Denoiser:
    """Draws the pictures of sequences, whose rows of `cache` hold the tokens before the picture's IMG."""

    def __init__(self, model: Decoder, vocab: Vocabulary, cache: KVCache, how: Denoising) -> None:
        how.check(vocab)
        self.model, self.vocab, self.cache = model, vocab, cache
        self.path, self.times = how.path.to(cache.device), how.times

    def begin(self, sequence: ActiveSequence) -> None:
        """Start the picture or video that the sequence is in the middle of, if there is one; known codes stay."""
        picture = sequence.begin_picture(self.cache.device)
        if picture is not None:
            noise = self._uniforms(sequence, len(picture.free)) * self.vocab.codes
            picture.ids[picture.free] = self.vocab.vision_start + noise.long()

    def advance(self, sequences: Sequence[ActiveSequence], first: int) -> None:
        """One pass over pictures of one `group`, of sequences whose rows follow each other from row `first` on."""
        pictures = [sequence.picture for sequence in sequences for _ in range(sequence.rows)]
        ids = torch.stack([picture.ids for picture in pictures if picture is not None])
        positions = self.cache.reserve(slice(first, first + len(ids)), ids.shape[1], both_ways=True)
        hidden = self.model(ids, positions, cache=self.cache)
        row = 0
        for sequence in sequences:
            self._move(sequence, hidden[row : row + sequence.rows])
            row += sequence.rows

    def passes(self, picture: Picture) -> int:
        """How many it takes in all."""
        return len(self.times)

    def undrawn(self, picture: Picture) -> list[int]:
        """The places of codes that are not drawn yet: none, since they all are from the first pass on."""
        return []

    def group(self, picture: Picture) -> Hashable:
        """Pictures of equal groups can share a pass."""
        return len(picture.ids)

    def _move(self, sequence: ActiveSequence, hidden: Tensor) -> None:
        """Move a picture on by one pass, from its hidden states [rows, n, hidden]."""
        picture, sampling, start = sequence.picture, sequence.request.sampling, self.vocab.vision_start
        assert picture is not None
        time = self.times[picture.step]
        scales = sequence.request.scales if time < GUIDED_UNTIL else ()
        states = hidden[: 1 + len(scales), picture.free - 1]  # a code is predicted by the token before it
        codes, moved = picture.ids[picture.free] - start, []
        heading, moving = self._uniforms(sequence, 2 * len(codes)).chunk(2)
        picture.step += 1
        for part in torch.split(torch.arange(len(codes), device=codes.device), max(1, CHUNK // self.path.codes)):
            logits = guided_logits(
                self.model.lm_head, states[:, part].flatten(0, 1), ((start, self.vocab.vision_stop),), scales
            )
            wanted = choose(probabilities(logits, sampling.vision), heading[part])
            if picture.step < self.passes(picture):
                before, after = (
                    torch.full(part.shape, when, dtype=torch.float64, device=codes.device)
                    for when in (time, self.times[picture.step])
                )
                wanted = self.path.step(codes[part], wanted, before, after, moving[part])
            moved.append(wanted)
        picture.ids[picture.free] = start + torch.cat(moved)

    def _uniforms(self, sequence: ActiveSequence, count: int) -> Tensor:
        return torch.tensor(sequence.uniforms(count), device=self.cache.device)
