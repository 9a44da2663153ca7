"""A text file becomes one sample; its words are read again when it is tokenized."""

from __future__ import annotations

import encodings.utf_8_sig  # noqa: F401  (once, not by each worker of the child for itself)
from collections.abc import Iterator
from typing import Any

import numpy as np

from reelmill.errors import Refused
from reelmill.isolation import wire
from reelmill.media.source import Source


def expand(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The one sample of a text."""
    read_text(source, options)
    arrays: dict[str, wire.Array] = {
        "images": np.zeros((0, 1, 1, 3), np.uint8),
        "times": np.zeros(0, np.float64),
        "runs": np.zeros((0, 3, 1, 1), np.uint8),
    }
    facts = {"width": 0, "height": 0, "fps": 0.0}
    yield {"type": "sample", "start_s": 0.0, "end_s": 0.0, **facts}, arrays
    yield {"type": "item", **facts, "duration_s": 0.0, "codec": "utf-8", "sha256": source.sha256()}, {}


def text_clip(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The words of a text for its document; `text` is uint8 [N], UTF-8."""
    (clip,) = options["clips"]
    words = np.frombuffer(read_text(source, options).encode(), np.uint8)
    yield {"type": "text", "key": clip["key"]}, {"text": words}


def read_text(source: Source, options: dict[str, Any]) -> str:
    """The text of an item, line ends made `\\n`. Raises Refused when it is too large, empty or not UTF-8."""
    if source.size > options["max_text_bytes"]:
        raise Refused(f"too_large: {source.size} bytes, allowed {options['max_text_bytes']}")
    with source.open() as stream:
        data = stream.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"not_utf8: {error}") from None
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise Refused("empty: the file holds no words")
    if "\x00" in text:
        raise Refused("not_text: the file holds NUL characters")
    return text
