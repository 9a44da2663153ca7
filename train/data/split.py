"""Documents as pieces that a row can hold: images whole, videos cut between latent frames, texts cut anywhere."""

from __future__ import annotations

import numpy as np

from reelmill.tokenize.shards import KINDS
from reelmill.train.data.binpacking import Ints
from reelmill.train.data.caption_dropout import SPELLING
from reelmill.train.data.packing import Pieces

_TEXT, _VIDEO = KINDS.index("text"), KINDS.index("video")


def split_documents(
    documents: Ints, n_tokens: Ints, kind: Ints, grid: Ints, context: int
) -> tuple[Pieces, Pieces, Ints]:
    """(pieces to keep whole, texts to cut, documents left out because they cannot be packed into `context`).

    `n_tokens`, `kind` (an index into KINDS): [documents]; `grid`: [documents, 3], latent frames, rows and columns. Left
    out are images whose document is longer than the context and videos of which not one latent frame fits.
    """
    size = n_tokens - 1
    is_text = kind == _TEXT
    whole = ~is_text & (size <= context)
    too_long = ~is_text & ~whole
    is_video = too_long & (kind == _VIDEO)
    parts, left_out = _video_parts(documents[is_video], n_tokens[is_video], grid[is_video], context)
    text = is_text & (size > 0)
    return (
        Pieces.join([Pieces.unsplit(documents[whole], size[whole]), parts]),
        Pieces(documents[text], np.zeros_like(size[text]), size[text], size[text]),
        np.concatenate((left_out, documents[too_long & ~is_video])),
    )


def _video_parts(documents: Ints, n_tokens: Ints, grid: Ints, context: int) -> tuple[Pieces, Ints]:
    """Videos cut into parts of as many latent frames as fit, and the videos of which not even one frame fits."""
    frames, height, width = grid.T
    frame_tokens = height * (width + 1) + 1
    # A part may need more characters to state its duration than the whole video.
    header = n_tokens - 1 - frames * frame_tokens + SPELLING
    most = np.maximum(0, context - header) // np.maximum(1, frame_tokens)
    fits = most > 0
    count = -(-frames[fits] // most[fits])
    video = np.repeat(np.flatnonzero(fits), count)
    number = np.arange(len(video)) - np.repeat(np.cumsum(count) - count, count)
    first = number * most[video]
    stop = np.minimum(first + most[video], frames[video])
    return Pieces(documents[video], first, stop, header[video] + (stop - first) * frame_tokens[video]), documents[~fits]
