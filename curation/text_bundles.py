"""Texts many at a time: starting a child takes longer than reading a text, so one reads a bundle of them.

A bundle's bytes lie one after another in a file without a name. The child says of each text what it would say of it
alone, and then which one it was.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from reelmill.errors import DataError
from reelmill.isolation.messages import SAMPLES, Kind, Kinds
from reelmill.isolation.parent import ItemFailed
from reelmill.isolation.untrusted import Integer, Text
from reelmill.isolation.wire import Message
from reelmill.media.source import Source, UnpackedSource

JOB = "reelmill.curation.expanders.text:expand_many"
TEXT_EXPANDER = "reelmill.curation.expanders.text:expand"
MOST_ITEMS = 64
MOST_BYTES = 1024 * 1024
"""Bytes of a bundle. A larger text goes alone."""
_GROWTH = 8
"""How much longer texts may become as UTF-8: twice for Cyrillic, three times where NFC divides characters."""
_INDEX = Integer(0, MOST_ITEMS - 1)

BUNDLE: Kinds = {
    **SAMPLES,
    "item": Kind({**SAMPLES["item"].fields, "index": _INDEX}, most=MOST_ITEMS),
    "unusable": Kind({"index": _INDEX, "reason": Text(1000)}, most=MOST_ITEMS),
}
"""What the child says of a bundle (`expanders/text.py`): after each text its facts, or why it cannot be used."""


def batches(items: Sequence[Mapping[str, Any]], expander: str | None) -> Iterator[list[Mapping[str, Any]]]:
    """Items in their order, texts that follow one another together where reelmill's own expander reads them."""
    held: list[Mapping[str, Any]] = []
    size = 0
    for item in items:
        fits = (
            item["kind"] == "text" and expander == TEXT_EXPANDER and not item["problem"] and item["size"] < MOST_BYTES
        )
        if held and (not fits or len(held) == MOST_ITEMS or size + item["size"] > MOST_BYTES):
            yield held
            held, size = [], 0
        if fits:
            held.append(item)
            size += item["size"]
        else:
            yield [item]
    if held:
        yield held


def bundled(data: Sequence[bytes]) -> UnpackedSource:
    """Texts as one open file."""
    file: IO[bytes] = tempfile.TemporaryFile(prefix="reelmill-texts-")  # noqa: SIM115  (lives as long as the source)
    file.writelines(data)
    file.flush()
    return UnpackedSource("texts", 0, sum(map(len, data)), unpacked=file)


def read_bytes(source: Source) -> bytes:
    """All bytes of a text. ItemFailed, of class machine, where they cannot be read."""
    try:
        with source.open() as stream:
            return stream.read()
    except DataError as error:
        raise ItemFailed("machine", f"unreadable: {error}") from None


def by_text(messages: Iterator[Message], count: int) -> list[list[Message] | ItemFailed]:
    """What was said of each text, in order: messages as of `expand`, or its refusal.

    Raises ItemFailed unless each text is spoken of once, in order.
    """
    found: list[list[Message] | ItemFailed] = []
    held: list[Message] = []
    size = 0
    for body, arrays in messages:
        size += sum(array.nbytes for array in arrays.values())
        if size > _GROWTH * MOST_BYTES:
            raise ItemFailed("item", f"decoder_nonsense: {size} bytes of texts that have at most {MOST_BYTES}")
        if "index" in body and body["index"] != len(found):
            raise ItemFailed("item", "decoder_nonsense: another text than was asked for")
        held.append((body, arrays))
        if body["type"] == "unusable":
            found.append(ItemFailed("item", body["reason"]))
            held = []
        elif body["type"] == "item":
            found.append(held)
            held = []
    if len(found) != count or held:
        raise ItemFailed("item", f"decoder_nonsense: {len(found)} texts of {count}")
    return found
