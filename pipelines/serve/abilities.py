"""What a served model can be asked for on the page, and what of it the model has learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelmill.eval.generation.loading import is_hf_folder
from reelmill.tokenize.layout import Layout
from reelmill.train import checkpoint

FEW_STEPS = 500
"""A model that was trained from nothing for fewer steps draws hardly more than noise."""
PAGE_TASKS = ("story", "howto", "vla")
"""Tasks whose answers are pages."""


@dataclass(frozen=True)
class Training:
    """How a model was trained. `learned`: names of what its documents teach (`train/data/subjects.py`), None where that
    is not known; `is_begun`: it began with the weights of another."""

    steps: int
    tokens: int
    learned: frozenset[str] | None = None
    is_begun: bool = False

    @classmethod
    def of(cls, place: Path) -> Training | None:
        """The training of a checkpoint; None of a folder in Hugging Face's layout, which does not say."""
        if is_hf_folder(place):
            return None
        state = checkpoint.read_state(place)
        learned = None if state.learned is None else frozenset(state.learned)
        return cls(state.step, state.tokens, learned, bool(state.recipe.get("init")))

    @property
    def facts(self) -> dict[str, Any]:
        """What the page says of it."""
        return {"steps": self.steps, "tokens": self.tokens, "few": self.steps < FEW_STEPS and not self.is_begun}


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
