"""Writing documents: captions, codes and texts to int32 ids (layout in `grammar.py`)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelmill.errors import ConfigError, DataError
from reelmill.tokenize.documents.header import Header
from reelmill.tokenize.vocabulary import Vocabulary

LAYOUT_VERSION = 1

Ids = npt.NDArray[np.int32]
Codes = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Visual:
    """An image (codes [H, W]) or a video (codes [T, H, W], with `fps` and `seconds`) inside a document."""

    codes: Codes
    fps: float | None = None
    seconds: float | None = None


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


def interleaved_document(vocab: Vocabulary, parts: Sequence[str | Visual]) -> Ids:
    """`BOS`, the parts in order, `EOS`; int32 [tokens]."""
    pieces = [_ids(part, vocab) if isinstance(part, str) else _block(part, vocab) for part in parts]
    return np.concatenate([[vocab.bos], *pieces, [vocab.eos]], dtype=np.int32)


def generation_prompt(
    vocab: Vocabulary, caption: str, h: int, w: int, *, fps: float | None = None, seconds: float | None = None
) -> Ids:
    """`BOS caption BOI "H*W" IMG`: what a model continues with the codes of an image; int32 [tokens].

    With `fps` and `seconds` the meta text is a video's. Raises DataError for a size or duration that no document has.
    """
    meta = header_ids(vocab, Header(h, w, fps, seconds))
    return np.array([vocab.bos, *vocab.tokenizer.encode(caption), vocab.boi, *meta, vocab.img], dtype=np.int32)


def frame_ids(vocab: Vocabulary, codes: Codes) -> Ids:
    """Latent frames [T, H, W] as they stand after IMG, `((row EOL)xH EOF)xT`; int32 [tokens]."""
    t, h, w = codes.shape
    rows = np.full((t, h, w + 1), vocab.eol, dtype=np.int32)
    rows[:, :, :w] = codes + vocab.vision_start
    frames = np.full((t, h * (w + 1) + 1), vocab.eof, dtype=np.int32)
    frames[:, :-1] = rows.reshape(t, h * (w + 1))
    return frames.ravel()


def grid_for_ratio(ratio: str, area: int = 518_400) -> tuple[int, int]:
    """(h, w) in codes for an aspect ratio "W:H" and an area in pixels: Emu3's rule (`calculate_generate_size`).

    Sides are rounded to the nearest code of 8 x 8 pixels, half to even. Raises ConfigError for another ratio or area.
    """
    w, colon, h = ratio.partition(":")
    if not (colon and w.isascii() and h.isascii() and w.isdigit() and h.isdigit() and int(w) and int(h)):
        raise ConfigError(f'an aspect ratio is "W:H" in whole numbers, such as "16:9", not "{ratio}"')
    scale = math.sqrt(area / (int(w) * int(h))) if area > 0 else 0.0
    rows, columns = round(int(h) * scale / 8), round(int(w) * scale / 8)
    if not (rows and columns):
        raise ConfigError(f"{area} pixels at {ratio} are less than one code of 8 x 8 pixels high or wide")
    return rows, columns


def doc_id(sample_id: str, part: int, fingerprint: str, layout_version: int = LAYOUT_VERSION) -> str:
    """A document's id: 32 hex digits from the sample, the part of it, the vision tokenizer and the layout."""
    return _digest(sample_id, str(part), fingerprint, str(layout_version))[:32]


def caption_after(key: str, share: float, seed: int = 0) -> bool:
    """Whether document `key` (a sample_id, say) gets its caption after the codes; so does `share` of all keys."""
    return int(_digest(str(seed), key)[:13], 16) < share * 16**13


def header_ids(vocab: Vocabulary, header: Header) -> list[int]:
    """The ids of a meta text."""
    return vocab.tokenizer.encode(header.text)


def _digest(*fields: str) -> str:
    return hashlib.sha256("\0".join(fields).encode()).hexdigest()


def _ids(text: str, vocab: Vocabulary) -> Ids:
    return np.array(vocab.tokenizer.encode(text), dtype=np.int32)


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
