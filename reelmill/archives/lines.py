"""JSON lines, plain or compressed: a text a line. Members are numbered by the byte at which their lines begin."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from reelmill.archives.columns import IMAGES, Meaning, meaning, said
from reelmill.archives.compression import content_of
from reelmill.archives.contract import CHUNK_BYTES, Archive, Member
from reelmill.archives.page_images import joined
from reelmill.archives.url_rows import address_row
from reelmill.errors import brief
from reelmill.media.source import Source

MAX_LINE = 64 * 1024**2
"""Bytes of a line."""
_LOOKED_AT = 5
"""Lines from which it is told what the lines hold: the first may be broken."""


class JsonLines(Archive):
    """The lines of a file."""

    format = "jsonl"

    def __init__(self, source: Source, lines: Meaning, columns: Mapping[str, str] | None) -> None:
        super().__init__(source)
        self._lines, self._columns = lines, columns

    def members(self, first: int = 0) -> Iterator[Member | None]:
        """As in the contract."""
        with content_of(self.source) as stream:
            position = stream.seek(first) if stream.seekable() else 0
            while line := stream.readline(MAX_LINE):
                at, position = position, position + len(line)
                if len(line) == MAX_LINE and not line.endswith(b"\n"):
                    position += _to_line_end(stream)
                    yield Member(at, f"{at}.txt", kind="text", problem=f"too_large: a line of {position - at} bytes")
                else:
                    yield self._member(at, line) if at >= first and line.strip() else None

    def _member(self, at: int, line: bytes) -> Member | None:
        name = f"{at}.txt"
        row, problem = _parsed(line)
        if problem:
            return Member(at, name, kind="text", problem=problem)
        if self._lines.counted_as is not None:
            self.pass_over(self._lines.counted_as)
            return None
        if self._lines.address is not None:
            return address_row(at, f"{at}", row, self._lines, self._columns)
        if self._lines.pages is not None:
            texts, urls = (row.pop(column, None) for column in self._lines.pages)
            return _page(at, name, texts, urls, said(row))
        assert self._lines.text is not None
        return _text(at, name, row.pop(self._lines.text, None), row, self._lines.text)


def lines_of(source: Source, columns: Mapping[str, str] | None = None) -> JsonLines | None:
    """The lines of a file, if its first ones are objects that hold what is known."""
    with content_of(source) as content:
        for _ in range(_LOOKED_AT):
            row, problem = _parsed(content.readline(MAX_LINE))
            if not problem and (found := meaning(row, columns)):
                return JsonLines(source, found, columns)
    return None


def _text(at: int, name: str, text: Any, row: dict[str, Any], column: str) -> Member:
    if not isinstance(text, str):
        return Member(at, name, kind="text", problem=f"no_text: the line's `{column}` is no text")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        return Member(at, name, kind="text", problem=f"not_utf8: {brief(error)}")
    return Member(at, name, iter([data]), kind="text", known=said(row))


def _page(at: int, name: str, texts: Any, urls: Any, known: dict[str, Any]) -> Member:
    if not (isinstance(texts, list) and isinstance(urls, list)):
        return Member(at, name, kind="text", problem="no_text: the line has no lists of texts and images")
    text, images = joined(texts, urls)
    data = text.encode("utf-8", "replace")
    return Member(at, name, iter([data]), kind="text", known={**known, IMAGES: images})


def _parsed(line: bytes) -> tuple[dict[str, Any], str]:
    """A line's object, or why it is none."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return {}, f"not_utf8: {brief(error)}"
    except (ValueError, RecursionError) as error:
        return {}, f"malformed_json: {brief(error)}"
    return (row, "") if isinstance(row, dict) else ({}, f"malformed_json: a line holds a {type(row).__name__}")


def _to_line_end(stream: io.BufferedReader) -> int:
    """Go to the next line; how many bytes that was."""
    passed = 0
    while data := stream.readline(CHUNK_BYTES):
        passed += len(data)
        if data.endswith(b"\n"):
            break
    return passed
