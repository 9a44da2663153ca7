"""Cutting a video document between latent frames, its header repeated (packing, long clips)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError
from reelmill.tokenize.documents.header import Header, seconds_of
from reelmill.tokenize.documents.reading import Block, Document
from reelmill.tokenize.documents.writing import header_ids


def latent_frame_bounds(document: Document) -> npt.NDArray[np.int64]:
    """int64 [T + 1]: where each latent frame begins in the tokens of an image or video, and the last one's end."""
    block = _block_of(document)
    return block.body + block.frame_tokens * np.arange(block.header.t + 1, dtype=np.int64)


def video_part(document: Document, first_frame: int, n_frames: int) -> npt.NDArray[np.int32]:
    """Latent frames first_frame .. first_frame + n_frames - 1 of a video as a document of its own; int32 [tokens].

    The caption is kept where it stands, the header is repeated with the part's own duration. Raises DataError for a
    document that is no video or frames that it has not.
    """
    block = _block_of(document)
    header = block.header
    if header.fps is None:
        raise DataError("only a video can be split; an image is never cut")
    if not (first_frame >= 0 and 1 <= n_frames <= header.t - first_frame):
        raise DataError(f"latent frames {first_frame} to {first_frame + n_frames - 1} of a video of {header.t}")
    bounds = latent_frame_bounds(document)
    tokens = document.tokens
    meta = header_ids(document.vocab, part_header(header, n_frames))
    return np.concatenate(
        [
            tokens[: block.start + 1],
            np.array(meta, dtype=np.int32),
            [document.vocab.img],
            tokens[bounds[first_frame] : bounds[first_frame + n_frames]],
            tokens[block.stop - 1 :],
        ],
        dtype=np.int32,
    )


def part_header(header: Header, n_frames: int) -> Header:
    """The header of `n_frames` latent frames of a video; same size and rate, its own duration."""
    if header.fps is None:
        raise DataError("an image has no parts")
    return Header(header.h, header.w, header.fps, seconds_of(n_frames, header.fps))


def _block_of(document: Document) -> Block:
    if document.kind not in ("image", "video"):
        raise DataError(f"latent frames are those of an image or a video, not of a document of kind {document.kind}")
    return document.blocks[0]
