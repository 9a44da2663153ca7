"""Captions as one line of what a person sees: no control characters, no invisible ones, emoji whole."""

from __future__ import annotations

import re
import unicodedata

MAX_TEXT = 20_000
_JOINERS = "\u200c\u200d"
"""Invisible by themselves, but they shape words (Persian, Hindi) and join emoji."""
_SELECTORS = "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
"""Variation selectors: they choose the look of the character before them."""
_FLAG = re.compile("(\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f)")
"""The flag of a part of a country, such as Wales: a black flag, its code in tags, the closing tag (UTS #51, ED-14a)."""
_VISIBLE_FORMATS = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
"""Number signs and the like, which stand around digits: of category Cf, but seen."""
_UNASSIGNED_AND_INVISIBLE = (0x2065, *range(0xFFF0, 0xFFF9), *range(0xE0000, 0xE1000))
"""Unassigned code points that Unicode reserves for invisible characters (Default_Ignorable_Code_Point)."""


def clean_text(text: str) -> str | None:
    """One line of visible text of at most MAX_TEXT characters; None when nothing is left.

    Line breaks, control and private characters become spaces. Soft hyphens, word joiners, zero-width spaces, direction
    marks and stray tags are deleted: they are invisible, and a space would cut a word in two.
    """
    encodable = text.encode("utf-8", "replace").decode()
    pieces = _FLAG.split(encodable)  # flags are at the odd places
    visible = "".join(piece if n % 2 else piece.translate(_Visible()) for n, piece in enumerate(pieces))
    line = " ".join(visible.split())[:MAX_TEXT].strip(f" {_JOINERS}")
    return line if line.strip(f" {_JOINERS}{_SELECTORS}") else None


class _Visible:
    """The table of `str.translate`: what a code point becomes."""

    def __getitem__(self, code: int) -> str | int:
        if chr(code) in _JOINERS or code in _VISIBLE_FORMATS:
            return code
        category = unicodedata.category(chr(code))
        if category == "Cf" or (category == "Cn" and code in _UNASSIGNED_AND_INVISIBLE):
            return ""
        if category == "Cn" and not _is_noncharacter(code):  # newer than this Python's Unicode, as new emoji are
            return code
        return " " if category[0] in "CZ" else code


def _is_noncharacter(code: int) -> bool:
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
