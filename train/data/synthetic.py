"""Synthetic documents: they teach where rows and frames end when there are few real documents.

A model that sees few documents, each at one size, infers the ends of rows from the picture, and loses count as soon as
it draws something else. A synthetic document has random codes, so only its header says where its rows end. (Ours; Emu3
has enough documents not to need this.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reelmill.tokenize.documents import Document, image_document, parse_unchecked, seconds_of, video_document

WHOLE_SHARE = 1 / 8
"""So many have their document's size and are whole; the others have any size and are cut after some rows."""
KNOWN_WIDTHS = 0.8
"""Share of the others whose width is one of the corpus's own: those are what a prompt will ask for."""
MOST_ROWS = 3
"""Rows before the cut, at most. The first row of a document is the hardest to count, so they are short and many."""


class SyntheticDocument(NamedTuple):
    """A document or its beginning. tokens: int32 [N]; kinds: uint8 [N], a TokenKind each, as in the loss."""

    tokens: npt.NDArray[np.int32]
    kinds: npt.NDArray[np.uint8]


def synthetic_documents(documents: Sequence[Document], each: int, rng: np.random.Generator) -> list[SyntheticDocument]:
    """`each` synthetic documents of every one of `documents` (images and videos), in their order.

    Each is an image or, in half the draws from a video, a video of one latent frame. Of its document's size it is
    whole. Else its height is uniform up to the document's, its width one that occurs among `documents` (each as often
    as the other) or, one time in five, any up to the document's, and it is cut after 1 to `MOST_ROWS` rows: a model
    that cannot count rows yet would learn to expect the end after each. Codes are drawn as frequently as they
    occur in `documents`. Half of them have the document's caption, before the codes. DataError for a text.
    """
    if not documents or not each:
        return []
    codes = np.concatenate([document.codes.ravel() for document in documents])
    widths = np.unique([document.grid[2] for document in documents])
    return [_synthetic_document(document, codes, widths, rng) for document in documents for _ in range(each)]


def _synthetic_document(
    document: Document, codes: npt.NDArray[np.int32], widths: npt.NDArray[np.int64], rng: np.random.Generator
) -> SyntheticDocument:
    _, h, w = document.grid
    is_whole = rng.random() < WHOLE_SHARE
    if not is_whole:
        h, w = int(rng.integers(h)) + 1, int(rng.choice(widths) if rng.random() < KNOWN_WIDTHS else rng.integers(w) + 1)
    drawn = rng.choice(codes, (h, w))
    caption = document.caption if rng.random() < 0.5 else ""
    if document.fps is not None and rng.random() < 0.5:
        tokens = video_document(document.vocab, drawn[None], caption, document.fps, seconds_of(1, document.fps))
    else:
        tokens = image_document(document.vocab, drawn, caption)
    made = parse_unchecked(document.vocab, tokens)
    rows = int(rng.integers(min(MOST_ROWS, h))) + 1
    stop = len(tokens) if is_whole else made.blocks[0].body + rows * (w + 1)
    return SyntheticDocument(tokens[:stop], made.loss_kinds[:stop])
