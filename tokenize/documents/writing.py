"""Writing documents: captions, codes and texts to int32 ids (layout in `grammar.py`)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelmill.draws import uniform_of
from reelmill.errors import ConfigError, DataError
from reelmill.media.geometry import code_grid
from reelmill.tokenize.documents.header import Header, seconds_of
from reelmill.tokenize.layout import EMU3, Layout
from reelmill.tokenize.vocabulary import Vocabulary

LAYOUT_VERSION = 1

Ids = npt.NDArray[np.int32]
Codes = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Visual:
    """An image (codes [H, W]) or a video (codes [T, H, W], with `fps` and `seconds`) in a document."""

    codes: Codes
    fps: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Thought:
    """What a model thinks before it draws (Emu3.5): of the next image, or with `is_global` of the whole answer."""

    text: str
    is_global: bool = False


Part = str | Visual | Thought


def text_document(vocab: Vocabulary, text: str) -> Ids:
    """`BOS text EOS`, int32 [tokens]."""
    return interleaved_document(vocab, [text])


def image_document(vocab: Vocabulary, codes: Codes, caption: str, *, caption_after: bool = False) -> Ids:
    """`BOS caption BOI "H*W" IMG (row EOL)xH EOF EOI EOS`, or the caption after EOI (understanding); int32 [tokens].

    `codes`: [H, W], values 0 .. vocab.codes - 1. Raises DataError for another shape or value.
    """
    visual = Visual(codes)
    return interleaved_document(vocab, [visual, caption] if caption_after else [caption, visual])


def video_document(
    vocab: Vocabulary, codes: Codes, caption: str, fps: float, seconds: float, *, caption_after: bool = False
) -> Ids:
    """`BOS caption BOI "H*W {fps:g}fps {seconds:g}s" IMG ((row EOL)xH EOF)xT EOI EOS`; int32 [tokens].

    `codes`: [T, H, W] with T = round(fps x seconds / 4) of the numbers as written (`seconds_of` gives such a duration);
    DataError otherwise.
    """
    visual = Visual(codes, fps, seconds)
    return interleaved_document(vocab, [visual, caption] if caption_after else [caption, visual])


def clip_document(vocab: Vocabulary, codes: Codes, caption: str, fps: float, *, caption_after: bool = False) -> Ids:
    """A clip of `fps` frames a second whose codes are [T, H, W]: a video, or in Emu3.5's layout an image a frame;
    int32 [tokens]. Raises as `video_document` does."""
    if vocab.layout.has_video:
        seconds = seconds_of(len(codes), fps)
        return video_document(vocab, codes, caption, fps, seconds, caption_after=caption_after)
    images: list[Part] = [Visual(frame) for frame in codes]
    return interleaved_document(vocab, [*images, caption] if caption_after else [caption, *images])


def interleaved_document(vocab: Vocabulary, parts: Sequence[Part]) -> Ids:
    """`BOS`, the parts in order, `EOS`; int32 [tokens]. Raises DataError for a part that the layout does not have."""
    pieces = [part_ids(vocab, part) for part in parts]
    return np.concatenate([[vocab.bos], *pieces, [vocab.eos]], dtype=np.int32)


def part_ids(vocab: Vocabulary, part: Part) -> Ids:
    """A text, an image or video with its header, or a thought between its marks; int32 [tokens]."""
    if isinstance(part, str):
        return _ids(part, vocab)
    return _block(part, vocab) if isinstance(part, Visual) else _thought(part, vocab)


def generation_prompt(
    vocab: Vocabulary, caption: str, h: int, w: int, *, fps: float | None = None, seconds: float | None = None
) -> Ids:
    """`BOS caption BOI "H*W" IMG`: what a model continues with the codes of an image; int32 [tokens].

    With `fps` and `seconds` the meta text is a video's. Raises DataError for a size or duration that no document has.
    """
    meta = header_ids(vocab, Header(h, w, fps, seconds))
    return np.array([vocab.bos, *vocab.tokenizer.encode(caption), vocab.boi, *meta, vocab.img], dtype=np.int32)


def frame_ids(vocab: Vocabulary, codes: Codes) -> Ids:
    """Latent frames [T, H, W] as they stand after IMG: Emu3's `((row EOL)xH EOF)xT`, Emu3.5's `(row EOL)x(H-1) row`;
    int32 [tokens]."""
    t, h, w = codes.shape
    rows = np.full((t, h, w + 1), vocab.eol, dtype=np.int32)
    rows[:, :, :w] = codes + vocab.vision_start
    filled = h * (w + 1) - (not vocab.layout.last_row_ends)
    frames = np.full((t, vocab.layout.frame_tokens(h, w)), vocab.eof, dtype=np.int32)
    frames[:, :filled] = rows.reshape(t, h * (w + 1))[:, :filled]
    return frames.ravel()


def grid_for_ratio(ratio: str, area: int = 518_400, cell: int = 8, layout: Layout = EMU3) -> tuple[int, int]:
    """(h, w) in codes for an aspect ratio "W:H" and an area in pixels; a code covers `cell` x `cell` of them.

    The rule is the layout's (`reelmill.media.geometry.code_grid`). Raises ConfigError for another ratio or area.
    """
    w, colon, h = ratio.partition(":")
    if not (colon and all(re.fullmatch("[0-9]{1,6}", side) and int(side) for side in (w, h))):
        raise ConfigError(f'an aspect ratio is "W:H" in whole numbers, such as "16:9", not "{ratio[:40]}"')
    rows, columns = code_grid(int(w), int(h), area, cell, whole_pixels=layout != EMU3)
    if not (rows and columns):
        raise ConfigError(f"{area} pixels at {ratio} are less than one code of {cell} x {cell} pixels high or wide")
    return rows, columns


def doc_id(sample_id: str, part: int, fingerprint: str, layout_version: int = LAYOUT_VERSION) -> str:
    """A document's id: 32 hex digits from the sample, the part of it, the vision tokenizer and the layout."""
    return _digest(sample_id, str(part), fingerprint, str(layout_version))[:32]


def caption_after(key: str, share: float, seed: int = 0) -> bool:
    """Whether the caption of document `key` (such as a sample_id) goes after the codes, as for `share` of all keys."""
    return uniform_of(_digest(str(seed), key)) < share


def header_ids(vocab: Vocabulary, header: Header) -> list[int]:
    """The ids of a meta text; DataError for a video where the layout has none."""
    if header.is_video and not vocab.layout.has_video:
        raise DataError(f"the layout {vocab.layout} has no video: a clip is its frames, each an image of its own")
    return vocab.tokenizer.encode(header.text)


def _digest(*fields: str) -> str:
    return hashlib.sha256("\0".join(fields).encode()).hexdigest()


def _ids(text: str, vocab: Vocabulary) -> Ids:
    return np.array(vocab.tokenizer.encode(text), dtype=np.int32)


def _thought(thought: Thought, vocab: Vocabulary) -> Ids:
    if not vocab.layout.has_spans:
        raise DataError(f"the layout {vocab.layout} has no thoughts; write them as text")
    begin, end = (vocab.bog, vocab.eog) if thought.is_global else (vocab.boc, vocab.eoc)
    return np.array([begin, *vocab.tokenizer.encode(thought.text), end], dtype=np.int32)


def _block(visual: Visual, vocab: Vocabulary) -> Ids:
    codes = np.asarray(visual.codes)
    is_video = visual.fps is not None
    if codes.ndim != (3 if is_video else 2) or not np.issubdtype(codes.dtype, np.integer):
        allowed = "integers [T, H, W]" if is_video else "integers [H, W] (a video also needs fps and seconds)"
        raise DataError(f"codes are {allowed}, not {codes.dtype} {list(codes.shape)}")
    h, w = codes.shape[-2:]
    header = Header(h, w, visual.fps, visual.seconds)
    codes = codes.reshape(-1, h, w)
    if len(codes) != header.t:
        raise DataError(
            f"{len(codes)} latent frames of codes, but {header.fps:g} frames/s for {header.seconds:g} s are "
            f"{header.t} (round(fps x seconds / 4)); state the duration by `seconds_of({len(codes)}, fps)`"
        )
    if codes.min() < 0 or codes.max() >= vocab.codes:
        raise DataError(
            f"codes run from {codes.min()} to {codes.max()}; the vocabulary has 0 to {vocab.codes - 1}: was another "
            "vision tokenizer used?"
        )
    opening = [vocab.boi, *header_ids(vocab, header), vocab.img]
    return np.concatenate([opening, frame_ids(vocab, codes), [vocab.eoi]], dtype=np.int32)
