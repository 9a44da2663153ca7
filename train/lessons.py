"""Lessons: made-up documents by which few real ones teach where rows end.

A model that sees few documents, each at one size, reads the ends of its rows from what they show, and loses count as
soon as it draws something else. A lesson is an image, or a video of one latent frame, of any size and of random codes:
only its header says where its rows end. (Ours; Emu3 has documents enough not to need it.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reelmill.tokenize.documents import Document, TokenKind, image_document, parse, seconds_of, video_document


def lessons(documents: Sequence[Document], each: int, rng: np.random.Generator) -> list[Document]:
    """`each` lessons of every one of `documents` (images and videos), in their order.

    A lesson is no larger than its document: its height is uniform, its width the larger of two uniform draws, for long
    rows are the harder to count. Its codes are drawn as frequently as they occur in `documents`. Half of the lessons
    have the document's caption, before the codes; half of a video's have a video's header. DataError for a text.
    """
    if not documents or not each:
        return []
    codes = np.concatenate([document.codes.ravel() for document in documents])
    return [_lesson(document, codes, rng) for document in documents for _ in range(each)]


def counted(lesson: Document) -> npt.NDArray[np.bool_]:
    """bool [N]: the tokens of a lesson that count in the loss, its header and its rows.

    Not its caption, and not its end: a model that cannot tell the number of rows yet would learn to expect the end
    after every row. Whole documents teach that.
    """
    block = lesson.blocks[0]
    end = block.body + block.frame_tokens - 1
    counts: npt.NDArray[np.bool_] = (lesson.kinds != TokenKind.TEXT) & (np.arange(len(lesson.tokens)) < end)
    return counts


def _lesson(document: Document, codes: npt.NDArray[np.int32], rng: np.random.Generator) -> Document:
    _, height, width = document.grid
    h, w = int(rng.integers(height)) + 1, int(rng.integers(width, size=2).max()) + 1
    drawn = rng.choice(codes, (h, w))
    caption = document.caption if rng.random() < 0.5 else ""
    if document.fps is not None and rng.random() < 0.5:
        tokens = video_document(document.vocab, drawn[None], caption, document.fps, seconds_of(1, document.fps))
    else:
        tokens = image_document(document.vocab, drawn, caption)
    return parse(document.vocab, tokens)
