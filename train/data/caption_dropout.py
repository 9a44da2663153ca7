"""Caption dropout: for a share of the images and videos, the caption before the codes is dropped or moved behind them.

Dropped: the document begins `BOS BOI`, like an unconditional prompt. Classifier-free guidance needs a model that has
also seen codes without a prompt. Emu3's released script drops a caption with probability 0.05 (`null_prompt_prob`);
here the draw is a hash, so that packing knows it too. Moved: the document says what the codes show, as in understanding
(Emu3, section 2.4), and keeps its length. Texts, conversations, interleaved documents and documents whose caption comes
after the codes never change.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError
from reelmill.tokenize.documents import Header, header_ids, seconds_of
from reelmill.tokenize.vocabulary import Vocabulary

Ints = npt.NDArray[np.int64]

SPELLING = 10
"""A video may state its duration with so many characters (each a token at most) more than the shortest spelling."""
_AROUND = 5  # BOS, BOI, IMG, EOI, EOS


def lengths_without_caption(vocab: Vocabulary, grid: Ints, fps: npt.NDArray[np.float64], n_tokens: Ints) -> Ints:
    """Upper bound on the tokens of each image or video without its caption; int64 [documents].

    `grid`: [documents, 3], latent frames, rows and columns; `fps`: NaN for an image. Exact for an image; for a video
    up to `SPELLING` more, since the shards' columns do not say how its duration is spelt.
    """
    sizes, which = np.unique(np.column_stack((grid, np.nan_to_num(fps))), axis=0, return_inverse=True)
    header = np.array([_header_tokens(vocab, *size) for size in sizes.tolist()], dtype=np.int64)
    t, h, w = grid.T
    lengths: Ints = np.minimum(n_tokens, _AROUND + header[which.reshape(-1)] + t * vocab.layout.frame_tokens(h, w))
    return lengths


def _header_tokens(vocab: Vocabulary, t: float, h: float, w: float, fps: float) -> int:
    if not fps:
        return len(header_ids(vocab, Header(int(h), int(w))))
    return len(header_ids(vocab, Header(int(h), int(w), fps, seconds_of(int(t), fps)))) + SPELLING


def sampled(bits: npt.NDArray[np.uint64], share: float, seed: int, epoch: int, *more: int) -> npt.NDArray[np.bool_]:
    """bool [documents]: which are drawn, each with probability `share`.

    A pure function of (seed, epoch, more, doc_id): the id's `leading_bits` through a mixing function (splitmix64;
    Steele et al. 2014).
    """
    salt = np.random.SeedSequence([seed, epoch, *more]).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        mixed = bits + salt
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    is_sampled: npt.NDArray[np.bool_] = (mixed >> np.uint64(11)) < share * 2.0**53
    return is_sampled


def leading_bits(doc_ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    """uint64 [documents]: the first 16 of 32 hex digits as numbers. Raises DataError for an id that is not such."""
    digits = np.array(doc_ids, dtype="S32").view(np.uint8).reshape(-1, 32)
    if not np.isin(digits, np.frombuffer(b"0123456789abcdef", dtype=np.uint8)).all():
        raise DataError("a doc_id is 32 hex digits; run `reelmill verify` on the run folders.")
    nibbles = (digits[:, :16] & 15) + 9 * (digits[:, :16] >> 6)
    packed = np.ascontiguousarray(nibbles[:, 0::2] << 4 | nibbles[:, 1::2])
    return packed.view(">u8").reshape(-1).astype(np.uint64)


def drop_caption(vocab: Vocabulary, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The document without everything between BOS and its first BOI."""
    begin = int((tokens == vocab.boi).argmax())
    return np.concatenate((tokens[:1], tokens[begin:]))


def move_caption(vocab: Vocabulary, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The document with everything between BOS and its first BOI moved before its EOS."""
    begin = int((tokens == vocab.boi).argmax())
    return np.concatenate((tokens[:1], tokens[begin:-1], tokens[1:begin], tokens[-1:]))
