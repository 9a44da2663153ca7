"""A picture while it is being generated: the rows of codes so far, decoded, and gray below them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reelmill.tokenize.documents import Header, read_header
from reelmill.tokenize.vision import Codes, Frames, VisionTokenizer
from reelmill.tokenize.vocabulary import Vocabulary

GREY = 128


def preview(vocab: Vocabulary, vision: VisionTokenizer, tokens: npt.ArrayLike) -> Frames | None:
    """The last image or video of a sequence that may end anywhere, as one picture [8h, 8w, 3] uint8.

    `tokens`: int [n], prompt included. For a video, the picture shows the newest latent frame, with the remaining rows
    of the frame before it below. It is None before the first row. A complete image equals `decode_image` of its codes.
    """
    found = rows_so_far(vocab, tokens)
    if found is None or not len(found[1]):
        return None
    header, rows = found
    height, cell = header.h, vision.spatial
    new = len(rows) % height
    if len(rows) >= height:
        frame = np.concatenate((rows[len(rows) - new :], rows[len(rows) - height : len(rows) - new]))
        return vision.decode_image(frame)
    picture = np.full((height * cell, header.w * cell, 3), GREY, dtype=np.uint8)
    picture[: new * cell] = vision.decode_image(rows)
    return picture


def rows_so_far(vocab: Vocabulary, tokens: npt.ArrayLike) -> tuple[Header, Codes] | None:
    """Header and complete rows of codes, int32 [rows, w], of the last image or video whose header is complete.

    The rows of a video's latent frames follow each other. None if there is no header yet.
    """
    ids = np.asarray(tokens, dtype=np.int32)
    begins = np.flatnonzero(ids == vocab.img)
    if not len(begins):
        return None
    begin = int(begins[-1])
    opening = int(np.flatnonzero(ids[:begin] == vocab.boi)[-1])
    header = read_header(vocab.tokenizer.decode(ids[opening + 1 : begin].tolist()))
    assert header is not None, "the grammar lets IMG follow a header only"
    body = ids[begin + 1 :]
    codes = body[vocab.is_vision(body)] - vocab.vision_start
    whole = len(codes) // header.w
    return header, codes[: whole * header.w].reshape(whole, header.w)
