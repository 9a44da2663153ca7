"""Bytes to characters: by byte order mark, as UTF-8, as declared, or as uchardet guesses."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

from reelmill.errors import Refused

_NAMES = (
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "iso8859_2", "iso8859_15", "koi8_r"),
    *("gbk", "gb18030", "big5", "shift_jis", "euc_jp", "iso2022_jp", "euc_kr", "utf_16_le", "utf_16_be"),
)
for _name in _NAMES:  # loaded once, not by each worker of the child for itself
    codecs.lookup(_name)
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_STRAY = 0.02
"""Share of lines that may be no UTF-8 in a text that is UTF-8 otherwise, joined from several files; ours."""
_WIDE = 0.3
"""Share of NUL bytes at even or odd places from which a text is UTF-16; ours. Half of Latin text is 0.5."""
_WESTERN = "windows-1252"


@dataclass(frozen=True)
class Decoded:
    """A text, its encoding, and what told it: `bom`, `utf-8` (it is valid), `declared`, `guessed`, `mixed`."""

    text: str
    encoding: str
    told_by: str


def decode(data: bytes, *declared: str | None) -> Decoded:
    """The characters of a text file; `declared` is what its HTTP header and the page itself say, in this order.

    A byte order mark wins over all. Valid UTF-8 is UTF-8, whatever is declared: longer texts in other encodings are
    never valid by chance. Raises Refused for what is no text.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return Decoded(data[len(mark) :].decode(name, "replace"), name, "bom")
    if b"\0" in data:
        return _wide(data)
    try:
        return Decoded(data.decode(), "utf-8", "utf-8")
    except UnicodeDecodeError:
        pass
    if mixed := _mixed(data):
        return mixed
    for label, told_by in (*((name, "declared") for name in declared), (detect_encoding(data), "guessed")):
        known = map_encoding_to_html5(label, fallback_utf8=False) if label else None
        if known and known != "utf-8" and (text := _strictly(data, known)) is not None:
            return Decoded(text, known, told_by)
    return Decoded(data.decode(_WESTERN, "replace"), _WESTERN, "guessed")


def _wide(data: bytes) -> Decoded:
    """UTF-16 without a mark, by where its NUL bytes lie. Refused where there is no such pattern."""
    pairs = len(data) // 2 if len(data) % 2 == 0 else 0
    for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if pairs and data[first::2].count(0) > _WIDE * pairs and data[1 - first :: 2].count(0) == 0:
            return Decoded(data.decode(name, "replace"), name, "guessed")
    raise Refused("not_text: the file holds NUL characters")


def _mixed(data: bytes) -> Decoded | None:
    """A text that is UTF-8 but for a few lines, which are read as Western European ones."""
    lines = data.split(b"\n")
    read = [_strictly(line, "utf-8") for line in lines]
    if read.count(None) > _STRAY * len(lines):
        return None
    text = "\n".join(
        line.decode(_WESTERN, "replace") if made is None else made for line, made in zip(lines, read, strict=True)
    )
    return Decoded(text, "utf-8", "mixed")


def _strictly(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return None
