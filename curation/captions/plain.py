"""Captions without a model: what the crawl said, and a sentence of measured facts."""

from __future__ import annotations

from reelmill.curation.captions.contract import Captioner, Row


class SidecarCaptioner(Captioner):
    """What the crawl said: alt text or a caption file."""

    def caption(self, row: Row) -> str | None:
        """The sidecar's text, unless there is none."""
        return row["alt"] or None


class FactsCaptioner(Captioner):
    """A sentence assembled from what was measured; says only what the columns say."""

    def caption(self, row: Row) -> str | None:
        """For instance `A landscape video, 4.0 seconds, colourful, with gentle motion.`"""
        phrases = [f"A {_shape(row['width'], row['height'])} {row['kind']}"]
        if row["kind"] == "video":
            phrases.append(f"{row['end_s'] - row['start_s']:.1f} seconds")
        if (colour := row.get("colourfulness")) is not None:
            phrases.append(_grade(colour, ((15, "muted in colour"), (45, "colourful")), "vividly coloured"))
        if row["kind"] == "video" and (motion := row.get("motion_score")) is not None:
            phrases.append(_grade(motion, ((0.02, "almost still"), (0.1, "with gentle motion")), "moving fast"))
        return ", ".join(phrases) + "."


def _shape(width: int, height: int) -> str:
    if width > 1.1 * height:
        return "landscape"
    return "portrait" if height > 1.1 * width else "square"


def _grade(value: float, steps: tuple[tuple[float, str], ...], above: str) -> str:
    return next((phrase for bound, phrase in steps if value < bound), above)
