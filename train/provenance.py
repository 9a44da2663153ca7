"""How the decoder of a folder was trained: what a checkpoint's state says, and what an export states of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reelmill.config import from_dict
from reelmill.errors import ConfigError, DataError
from reelmill.train import checkpoint

KEY = "reelmill_training"
"""The key of config.json under which an export states it."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a decoder was trained.

    steps, tokens: of its last run.
    tokenizer: fingerprint of the vision tokenizer that made its codes.
    objective: name of the training objective, with its `settings`, a table of the recipe.
    learned: what its documents teach (`data/subjects.py`), None where that is not known.
    is_begun: whether it began with the weights of another.
    drew_unprompted: whether some documents came without their caption or question.
    """

    steps: int
    tokens: int
    tokenizer: str
    objective: str
    settings: dict[str, Any]
    learned: list[str] | None
    is_begun: bool
    drew_unprompted: bool

    @classmethod
    def of(cls, place: Path) -> Training | None:
        """The training of a checkpoint or of a folder in Hugging Face's layout; None of one that does not state it."""
        described = place / "config.json"
        if not described.is_file():
            return cls.of_state(checkpoint.read_state(place))
        stated = json.loads(described.read_text(encoding="utf-8")).get(KEY)
        if stated is None:
            return None
        try:
            return from_dict(cls, stated, KEY)
        except ConfigError as error:
            raise DataError(f"{described} cannot be used ({error}). Export the model again.") from error

    @classmethod
    def of_state(cls, state: checkpoint.TrainState) -> Training:
        """The training that led to a checkpoint."""
        recipe, data = state.recipe, state.recipe["data"]
        return cls(
            steps=state.step,
            tokens=state.tokens,
            tokenizer=state.tokenizer,
            objective=recipe["objective"],
            settings=dict(recipe.get(recipe["objective"], {})),
            learned=state.learned,
            is_begun=bool(recipe.get("init")),
            drew_unprompted=bool(data.get("caption_drop") or data.get("question_drop")),
        )

    @property
    def stated(self) -> dict[str, Any]:
        """What an export writes."""
        return asdict(self)
