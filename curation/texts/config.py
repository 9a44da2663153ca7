"""Options of the text chain. Where nothing is set a text is read as UTF-8 and stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Maskable = Literal["mail", "phone", "ip", "key"]


@dataclass
class TextConfig:
    """How a text is read before anybody looks at it."""

    clean: bool = False
    """Detect encodings other than UTF-8, repair mojibake that is certain, compose characters (Unicode's NFC), remove
    invisible and control characters and blanks at the ends of lines."""
    mask: list[Maskable] = field(default_factory=list)
    """What is replaced by `[mail]`, `[phone]`, `[ip]`, `[key]`."""
    max_chars: int = 0
    """Characters of a document; a longer text becomes several, divided at ends of paragraphs. 0: no bound."""
