"""Noisy copies of the pictures and videos in a batch: where they stand, what they see, and the random numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.batches import Batch
from reelmill.train.objectives.copies import pictures_of
from reelmill.train.two_streams import PictureCopy

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Noise:
    """Noisy blocks, one behind the other: [n] tokens, of which [m] are codes.

    A block copies IMG and what follows up to the last code, ends of rows among it, at the same positions. `source`: the
    place of each token in the flattened batch. `codes`: which of the tokens are codes. `times`, `uniforms`: of each
    code, how far it is from noise (one time for each latent frame of a block) and the number that draws its noise.
    """

    blocks: list[PictureCopy]
    source: Ints
    codes: Ints
    times: npt.NDArray[np.float32]
    uniforms: npt.NDArray[np.float32]


@dataclass(frozen=True)
class NoisyBatch(Batch):
    """A batch with noisy copies of its pictures."""

    noise: Noise


def with_noise(batch: Batch, vocab: Vocabulary, documents: int, seed: list[int]) -> NoisyBatch:
    """The batch with a noisy copy of each picture and video whose codes are predicted in it.

    Documents from number `documents` on are synthetic: their codes follow no law, and have no copy. The times are
    uniform in [0, 1). All numbers follow from `seed` and the document, whatever else is in the batch.
    """
    tokens = batch.tokens.reshape(-1)
    blocks: list[PictureCopy] = []
    sources, codes, times, uniforms = [], [], [], []
    copied = 0
    for document, first, length, pictures in pictures_of(batch, vocab, documents):
        rng = np.random.default_rng([*seed, document, length])
        for begin, stop in pictures:
            ids = tokens[begin:stop]
            places = np.flatnonzero(vocab.is_vision(ids))
            frames = np.cumsum(ids == vocab.eof)[places]
            blocks.append(PictureCopy(stop - begin, first, begin))
            sources.append(np.arange(begin, stop))
            codes.append(places + copied)
            times.append(rng.random(frames[-1] + 1, dtype=np.float32)[frames])
            uniforms.append(rng.random(len(places), dtype=np.float32))
            copied += stop - begin
    noise = Noise(
        blocks,
        np.concatenate([np.empty(0, np.int64), *sources]),
        np.concatenate([np.empty(0, np.int64), *codes]),
        np.concatenate([np.empty(0, np.float32), *times]),
        np.concatenate([np.empty(0, np.float32), *uniforms]),
    )
    return NoisyBatch(**vars(batch), noise=noise)
