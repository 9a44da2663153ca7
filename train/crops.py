"""Crops in token space: an augmentation by which few documents teach where rows end.

The codes of a convolutional tokenizer are local, so a box of one latent frame is nearly the codes of the cropped still:
a well-formed image document of another size. A model that sees few documents, each at one size, reads the ends of their
rows from what they show; small crops of random size and place make it read the header and count. Half of them keep
their document's caption, half have none and are shorter. (Ours; Emu3 has documents enough not to need it.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reelmill.tokenize.documents import Document, Header, header_ids, image_document, parse
from reelmill.tokenize.vocabulary import Vocabulary

Ints = npt.NDArray[np.int64]
_MARKS = 5  # BOS, BOI, IMG, EOI, EOS


def draw_boxes(grids: Ints, rng: np.random.Generator) -> Ints:
    """A box in each grid, int64 [N, 6]: latent frame, first row and column, height, width, 1 with caption; all uniform.

    `grids`: int64 [N, 3], latent frames, height and width in codes. All sizes occur: were no crop as high as a whole
    document, a high one's width could again be read from what it shows.
    """
    frames, height, width = grids.T
    h, w = 1 + rng.integers(height), 1 + rng.integers(width)
    first = [rng.integers(frames), rng.integers(height - h + 1), rng.integers(width - w + 1)]
    return np.stack((*first, h, w, rng.integers(2, size=len(grids))), axis=1)


def crop(document: Document, box: Ints) -> Document:
    """The codes of a box (one row of `draw_boxes`) of an image or video as an image document, its caption in place.

    DataError for a text.
    """
    frame, row, column, h, w, has_caption = box.tolist()
    codes = document.codes[frame, row : row + h, column : column + w]
    tokens, block = image_document(document.vocab, codes, ""), document.blocks[0]
    if has_caption:
        tokens = np.concatenate((document.tokens[: block.start], tokens[1:-1], document.tokens[block.stop :]))
    return parse(document.vocab, tokens)


def most_tokens(vocab: Vocabulary, n_tokens: Ints, grids: Ints, is_video: npt.NDArray[np.bool_], boxes: Ints) -> Ints:
    """int64 [N]: an upper bound on the tokens of crops of documents of `n_tokens`, a few above it for a video's.

    How many characters a video's header has is not among the columns of an index; the shortest possible is assumed.
    """
    t, h, w = grids.T
    caption = n_tokens - _MARKS - t * _frame_tokens(h, w) - _header_tokens(vocab, h, w, is_video)
    h, w, has_caption = boxes[:, 3:].T
    return _MARKS + _frame_tokens(h, w) + _header_tokens(vocab, h, w, np.zeros_like(is_video)) + caption * has_caption


def _frame_tokens(h: Ints, w: Ints) -> Ints:
    tokens: Ints = h * (w + 1) + 1
    return tokens


def _header_tokens(vocab: Vocabulary, h: Ints, w: Ints, is_video: npt.NDArray[np.bool_]) -> Ints:
    """int64 [N]: tokens of the shortest headers of this size."""
    kinds, number = np.unique(np.stack((h, w, is_video), axis=1), axis=0, return_inverse=True)
    headers = [Header(h, w, *((1.0, 4.0) if video else ())) for h, w, video in kinds.tolist()]
    return np.array([len(header_ids(vocab, header)) for header in headers], dtype=np.int64)[number.ravel()]
