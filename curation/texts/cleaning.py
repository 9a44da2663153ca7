"""Characters as a reader sees them: mojibake repaired, composed, nothing invisible, no blanks at the ends of lines."""

from __future__ import annotations

import re
import unicodedata

from ftfy import TextFixerConfig, fix_encoding
from ftfy.badness import is_bad

_LOSSLESS = TextFixerConfig(restore_byte_a0=False, replace_lossy_sequences=False, decode_inconsistent_utf8=False)
"""Without ftfy's guesses at bytes that are gone: `Ã ` may be a Portuguese word's end."""
_RETURNS = re.compile("\r\n?")
_LINE_ENDS = re.compile("[\x85\u2028\u2029\x0b\x0c]")
_ODD = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff]"
)
"""Control characters, soft hyphens, zero-width blanks, marks of direction, stray byte order marks."""
_SPACED = re.compile(r"[ \t\u00a0]+$", re.MULTILINE)
_SPACED_ENDS = (" \n", "\t\n", "\u00a0\n")
_GAPS = re.compile(r"\n{3,}")


def clean(text: str) -> tuple[str, int]:
    """The text as it is kept, and how many of its lines were repaired.

    A line is repaired where ftfy finds mojibake in it, can undo the wrong decoding without loss, and finds none in what
    comes out. Everything else stays as it was written: quotes, ligatures and width are an author's own.
    """
    text = _RETURNS.sub("\n", text)
    repaired = 0
    if not text.isascii():
        lines = text.split("\n")
        fixed = [_repaired(line) for line in lines]
        repaired = sum(old != new for old, new in zip(lines, fixed, strict=True))
        text = "\n".join(fixed)
    text = unicodedata.normalize("NFC", _ODD.sub("", _LINE_ENDS.sub("\n", text)))
    text = text.strip()
    if any(end in text for end in _SPACED_ENDS):  # the patterns take longer than to see that there is nothing for them
        text = _SPACED.sub("", text)
    return _GAPS.sub("\n\n", text) if "\n\n\n" in text else text, repaired


def _repaired(line: str) -> str:
    if line.isascii() or not is_bad(line):
        return line
    fixed = fix_encoding(line, _LOSSLESS)
    return line if is_bad(fixed) else fixed
