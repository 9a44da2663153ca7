"""Captions without a model: what the crawl said, and a sentence of measured facts."""

from __future__ import annotations

from reelmill.curation.captions.contract import Captioner, Row


class SidecarCaptioner(Captioner):
    """What the crawl said: alt text or a caption file."""

    def caption(self, row: Row) -> str | None:
        """The sidecar's text, unless there is none."""
        return row["alt"] or None


class FactsCaptioner(Captioner):
    """A sentence assembled from what was measured. It says only what a viewer would say too: where a word could be
    taken to be false, there is none."""

    def caption(self, row: Row) -> str | None:
        """For instance `A horizontal video, 4.0 seconds, dark, in muted colors, with little motion.`"""
        phrases = [f"A {_shape(row['width'], row['height'])} {row['kind']}"]
        if row["kind"] == "video":
            phrases.append(f"{row['end_s'] - row['start_s']:.1f} seconds")
        said = [_light(row), _colours(row), _motion(row) if row["kind"] == "video" else ""]
        return ", ".join([*phrases, *filter(None, said)]) + "."


def _shape(width: int, height: int) -> str:
    """The frame's orientation, in words that name no scenery and nobody's likeness."""
    if width > 1.1 * height:
        return "horizontal"
    return "vertical" if height > 1.1 * width else "square"


def _light(row: Row) -> str:
    luma = row.get("luma")
    if luma is None or 50 <= luma <= 190:
        return ""
    return "dark" if luma < 50 else "bright"


def _colours(row: Row) -> str:
    """What is brown, dark or pale is not vivid, however widely its hues differ."""
    chroma, vivid = row.get("chroma"), row.get("vivid_share")
    if chroma is None or vivid is None:
        return ""
    if chroma < 2:
        return "in shades of gray"
    if chroma < 10:
        return "in muted colors"
    return "in vivid colors" if vivid >= 0.5 else ""


def _motion(row: Row) -> str:
    """How much moves, not how fast: a ball that crosses a still picture is little motion."""
    motion = row.get("motion_score")
    if motion is None:
        return ""
    if row.get("frozen_share") == 1:
        return "without motion"
    # A coarse look may be off (`motion_raft_error`): all that it may be must have the same word.
    off = 1 + (row.get("motion_raft_error") or 0.0)
    words = {_grade(value) for value in (motion / off, motion, motion * off)}
    return words.pop() if len(words) == 1 else ""


def _grade(motion: float) -> str:
    if motion < 0.02:
        return "with little motion"
    return "with some motion" if motion < 0.1 else "with much motion"
