"""Captioners that need no model: a sample's row in, a caption out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from reelmill.config import nearest
from reelmill.errors import ConfigError


class Captioner(ABC):
    """The captioner contract: `name` becomes `caption_source`; `caption` may decline with None.

    A row has the columns of the `samples` view and the item's `alt` and `uri`.
    """

    name: ClassVar[str]

    @abstractmethod
    def caption(self, row: Mapping[str, Any]) -> str | None:
        """A caption of the sample, or None."""


class SidecarCaptioner(Captioner):
    """What the crawl said: alt text or a caption file."""

    name = "sidecar"

    def caption(self, row: Mapping[str, Any]) -> str | None:
        """The sidecar's text, unless there is none."""
        return row["alt"] or None


class FactsCaptioner(Captioner):
    """A sentence assembled from what was measured; says only what the columns say."""

    name = "facts"

    def caption(self, row: Mapping[str, Any]) -> str | None:
        """For instance `A landscape video, 4.0 seconds, colourful, with gentle motion.`"""
        shape = _shape(row["width"], row["height"])
        words = [f"A {shape} {row['kind']}"]
        if row["kind"] == "video":
            words.append(f"{row['end_s'] - row['start_s']:.1f} seconds")
        if row["colourfulness"] is not None:
            words.append(_grade(row["colourfulness"], ((15, "muted in colour"), (45, "colourful")), "vividly coloured"))
        if row["kind"] == "video" and row["motion_score"] is not None:
            words.append(
                _grade(row["motion_score"], ((0.02, "almost still"), (0.1, "with gentle motion")), "moving fast")
            )
        return ", ".join(words) + "."


CAPTIONERS: dict[str, type[Captioner]] = {c.name: c for c in (SidecarCaptioner, FactsCaptioner)}


def create(names: Sequence[str]) -> list[Captioner]:
    """Captioners by name. ConfigError names the nearest one."""
    for name in names:
        if name not in CAPTIONERS:
            raise ConfigError(f"unknown captioner {name!r}; {nearest(name, CAPTIONERS)}")
    return [CAPTIONERS[name]() for name in names]


def _shape(width: int, height: int) -> str:
    if width > 1.1 * height:
        return "landscape"
    return "portrait" if height > 1.1 * width else "square"


def _grade(value: float, steps: tuple[tuple[float, str], ...], above: str) -> str:
    return next((word for bound, word in steps if value < bound), above)
