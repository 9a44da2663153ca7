"""What a served model can be asked for on the page, and what of it the model has learned."""

from __future__ import annotations

from typing import Any

from reelmill.tokenize.layout import Layout
from reelmill.train.provenance import Training

FEW_STEPS = 500
"""A model that was trained from nothing for fewer steps draws hardly more than noise."""
PAGE_TASKS = ("story", "howto", "vla")
"""Tasks whose answers are pages."""


def training_facts(training: Training) -> dict[str, Any]:
    """What the page says of how a model was trained."""
    few = training.steps < FEW_STEPS and not training.is_begun
    return {"steps": training.steps, "tokens": training.tokens, "few": few}


def modes(layout: Layout, training: Training | None) -> dict[str, dict[str, Any]]:
    """What the layout has documents for, by the page's names: `learned` is true, false, or None where nobody knows.

    `tasks` of `story` are those that it can be asked for; `task` of `draw` is the one that a picture is asked for by.
    """
    known = None if training is None else training.learned

    def learned(*names: str) -> bool | None:
        return None if known is None else any(name in known for name in names)

    found: dict[str, dict[str, Any]] = {"draw": {"learned": learned("image", "t2i"), "task": None}}
    if layout.has_spans:
        found["draw"]["task"] = "t2i" if learned("t2i") in (True, None) else None
        found["edit"] = {"learned": learned("x2i")}
        found["story"] = {
            "learned": learned(*PAGE_TASKS),
            "tasks": {task: learned(task) for task in PAGE_TASKS},
        }
        found["world"] = {"learned": learned("explore")}
    if layout.has_video:
        found["video"] = {"learned": learned("video")}
    found["chat"] = {"learned": learned("chat")}
    return found
