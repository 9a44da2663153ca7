"""Sidecars: what a crawl wrote beside an item. Untrusted text, bounded, never more than data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from reelmill.errors import DataError
from reelmill.media.source import Source

MAX_BYTES = 1024 * 1024
MAX_TEXT = 20_000
_KEYS = {
    "alt": ("caption", "alt", "alt_text", "text", "title"),
    "licence": ("licence", "license"),
    "url": ("url", "URL"),
    "source": ("source", "dataset"),
}
"""Names that crawls use, in the order of preference."""
_JOINERS = "\u200c\u200d"
"""Unprintable by themselves, but they shape words (Persian, Hindi) and emoji."""


@dataclass(frozen=True)
class Sidecar:
    """What is known about an item from beside it; `problem` says why a sidecar could not be read."""

    alt: str | None = None
    licence: str | None = None
    url: str | None = None
    source: str | None = None
    problem: str | None = None


def read_sidecar(json_source: Source | None, text_source: Source | None) -> Sidecar:
    """Join a JSON and a text sidecar; the JSON's caption wins over the text's."""
    values: dict[str, str | None] = {}
    problems = []
    if json_source is not None:
        found, problem = _json(json_source)
        values.update({name: _first(found, keys) for name, keys in _KEYS.items()})
        problems.append(problem)
    if text_source is not None and not values.get("alt"):
        values["alt"], problem = _text(text_source)
        problems.append(problem)
    return Sidecar(**values, problem="; ".join(p for p in problems if p) or None)


def _json(source: Source) -> tuple[dict[str, Any], str | None]:
    data, problem = _bytes(source, "json")
    if problem:
        return {}, problem
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return {}, f"malformed_json: {' '.join(str(error).split())[:200]}"
    if not isinstance(found, dict):
        return {}, f"malformed_json: an object is wanted, found {type(found).__name__}"
    return found, None


def _text(source: Source) -> tuple[str | None, str | None]:
    data, problem = _bytes(source, "text")
    return clean_text(data.decode("utf-8-sig", "replace")), problem


def _bytes(source: Source, what: str) -> tuple[bytes, str | None]:
    if source.size > MAX_BYTES:
        return b"", f"{what}_too_large: {source.size} bytes, allowed {MAX_BYTES}"
    try:
        with source.open() as stream:
            return stream.read(), None
    except (DataError, OSError) as error:
        return b"", f"unreadable_{what}: {error}"


def _first(found: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    for key in keys:
        if isinstance(found.get(key), str) and (text := clean_text(found[key])):
            return text
    return None


def clean_text(text: str) -> str | None:
    """One line of printable text, bounded; None when nothing is left."""
    encodable = text.encode("utf-8", "replace").decode()
    printable = "".join(c if c.isprintable() or c in _JOINERS else " " for c in encodable)
    return " ".join(printable.split())[:MAX_TEXT].strip(f" {_JOINERS}") or None
