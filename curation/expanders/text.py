"""A text file becomes one sample, or several of a long one; its words are read again when it is tokenized."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from reelmill.config import from_dict
from reelmill.curation.texts.cleaning import clean
from reelmill.curation.texts.config import TextConfig
from reelmill.curation.texts.masking import mask
from reelmill.curation.texts.splitting import spans
from reelmill.errors import Refused, brief
from reelmill.isolation import wire
from reelmill.media.details import no_details
from reelmill.media.encoding import Decoded, decode
from reelmill.media.source import Source

MARK = "\ufffc"
"""Stands for an object in a text (Unicode's OBJECT REPLACEMENT CHARACTER)."""
_NO_FRAMES: dict[str, wire.Array] = {
    "images": np.zeros((0, 1, 1, 3), np.uint8),
    "times": np.zeros(0, np.float64),
    "runs": np.zeros((0, 3, 1, 1), np.uint8),
    "details": no_details(),
}


@dataclass(frozen=True)
class ReadText:
    """A text as it is kept, and what was done to it. `masked`: how often each kind was."""

    decoded: Decoded
    text: str
    repaired_lines: int
    masked: dict[str, int]


def expand(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The samples of a text, each after its words."""
    yield from _expanded(source, from_dict(TextConfig, options["text"]), options["max_text_bytes"])


def _expanded(source: Source, config: TextConfig, max_bytes: int) -> Iterator[wire.Message]:
    read = read_text(source, config, max_bytes)
    parts = spans(read.text, config.max_chars)
    facts = {"width": 0, "height": 0, "fps": 0.0}
    known = {"encoding": read.decoded.encoding, "encoding_from": read.decoded.told_by, "repaired": read.repaired_lines}
    known |= {f"masked_{kind}s": count for kind, count in read.masked.items()}
    for first, last in parts:
        words = np.frombuffer(read.text[first:last].encode(), np.uint8)
        place = {"first": first, "last": last, "is_part": len(parts) > 1}
        yield {"type": "words", **place, **known}, {"text": words}
        yield {"type": "sample", "start_s": 0.0, "end_s": 0.0, **facts}, _NO_FRAMES
    codec = read.decoded.encoding
    yield {"type": "item", **facts, "duration_s": 0.0, "codec": codec, "sha256": source.sha256()}, {}


def expand_many(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The same of several texts, of `options["sizes"]` bytes, one after another; `index` says which one has ended."""
    at, config = source.offset, from_dict(TextConfig, options["text"])
    for index, size in enumerate(options["sizes"]):
        one = replace(source, offset=at, size=size)
        at += size
        try:
            for body, arrays in _expanded(one, config, options["max_text_bytes"]):
                yield {**body, "index": index} if body["type"] == "item" else body, arrays
        except Refused as refusal:
            yield {"type": "unusable", "index": index, "reason": brief(refusal, 1000)}, {}


def text_clip(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The words of samples of a text for their documents, `first` to `last` where there are several; `text` is uint8
    [N], UTF-8.
    """
    config = from_dict(TextConfig, options["text"])
    read = read_text(source, config, options["max_text_bytes"])
    for clip in options["clips"]:
        first, last = clip.get("first", 0), clip.get("last", len(read.text))
        words = _marked(read, clip["marks"], first, last, config) if "marks" in clip else read.text[first:last]
        yield {"type": "text", "key": clip["key"]}, {"text": np.frombuffer(words.encode(), np.uint8)}


def _marked(read: ReadText, marks: list[int], first: int, last: int, config: TextConfig) -> str:
    """Characters `first` to `last` of the kept text; before each image a mark, its number, a mark.

    `marks`: characters of the text before each image, as the archive gave it. They go through cleaning and masking with
    the text, to tell where they are then.
    """
    raw = read.decoded.text.replace(MARK, " ")
    edges = [0, *(min(mark, len(raw)) for mark in marks), len(raw)]
    kept, _, _ = _kept(MARK.join(raw[start:stop] for start, stop in pairwise(edges)), config)
    at, pieces, cut = 0, [], first
    for number, piece in enumerate(kept.split(MARK)[:-1]):
        at = min(at + len(piece), len(read.text))
        if first <= at < last or at == last == len(read.text):
            pieces.append(f"{read.text[cut:at].replace(MARK, ' ')}{MARK}{number}{MARK}")
            cut = at
    return "".join([*pieces, read.text[cut:last].replace(MARK, " ")])


def _kept(text: str, config: TextConfig) -> tuple[str, int, dict[str, int]]:
    """Characters as they are kept, how many lines were repaired, and what was masked."""
    text, repaired = clean(text) if config.clean else (text.replace("\r\n", "\n").strip(), 0)
    text, masked = mask(text, config.mask)
    return text, repaired, masked


def read_text(source: Source, config: TextConfig, max_bytes: int) -> ReadText:
    """The text of an item, as `config` wants it.

    Raises Refused when it is too large, empty or no text, and without `clean` when it is not UTF-8.
    """
    if source.size > max_bytes:
        raise Refused(f"too_large: {source.size} bytes, allowed {max_bytes}")
    with source.open() as stream:
        data = stream.read()
    decoded = decode(data) if config.clean else _utf8(data)
    text, repaired, masked = _kept(decoded.text, config)
    if not text:
        raise Refused("empty: the file holds no words")
    if "\x00" in text:
        raise Refused("not_text: the file holds NUL characters")
    return ReadText(decoded, text, repaired, masked)


def _utf8(data: bytes) -> Decoded:
    try:
        return Decoded(data.decode("utf-8-sig"), "utf-8", "utf-8")
    except UnicodeDecodeError as error:
        raise Refused(f"not_utf8: {error}") from None
