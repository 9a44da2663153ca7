"""A picture while it is being generated: the rows of codes so far, decoded, and gray below them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reelmill.eval.generation.request import PictureDraft
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


def draft_preview(vocab: Vocabulary, vision: VisionTokenizer, draft: PictureDraft) -> Frames:
    """A picture [8h, 8w, 3] uint8 that is drawn in another order than that of its tokens, gray where no code is yet.

    Of a video it is the last latent frame that has a code.
    """
    ids = draft.ids
    is_code = vocab.is_vision(ids) | (ids < 0)
    width = int(np.flatnonzero(~is_code)[1:2].sum() or len(ids)) - 1  # up to the first end of a row
    codes = ids[is_code].reshape(-1, width) - vocab.vision_start
    height = len(codes) // (1 + int((ids == vocab.eof).sum()))
    frames = codes.reshape(-1, height, width)
    frame = frames[np.flatnonzero((frames >= 0).any(axis=(1, 2)))[-1]]
    picture = vision.decode_image(frame.clip(min=0).astype(np.int32))
    is_empty = (frame < 0).repeat(vision.spatial, axis=0).repeat(vision.spatial, axis=1)
    return np.where(is_empty[..., None], np.uint8(GREY), picture)


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
