"""A case of the corpus: a file, how it is made, and what the command must say of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from odd_media import CORNERS

TL, TR, BL, BR = CORNERS
WIDTH, HEIGHT, FRAMES = 96, 72, 6
"""Of the corpus' videos, at 10 frames/s, and of its pictures."""


@dataclass(frozen=True)
class Case:
    """`make` writes the file; what is None is not looked at."""

    name: str
    make: Callable[[Path], object]
    width: int | None = WIDTH
    height: int | None = HEIGHT
    seconds: float | None = None
    samples: int = 1
    corners: tuple[tuple[int, int, int], ...] | None = CORNERS
    within: int = 16
    """How far off each value of a corner may be: what lossy codecs do to flat colours."""
    reason: str | None = None
    """The keyword with which it is refused; the rest is not looked at then."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of `items`."""


def refused(name: str, make: Callable[[Path], object], reason: str) -> Case:
    """A case that is refused."""
    return Case(name, make, reason=reason)
