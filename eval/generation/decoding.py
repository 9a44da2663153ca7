"""Ways to decode by their names, and which of them a model has learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelmill.config import from_dict, nearest
from reelmill.errors import ConfigError
from reelmill.eval.generation.denoising import STEPS, Denoising
from reelmill.eval.generation.diagonal_decoding import ByDiagonals
from reelmill.eval.generation.engine import Pictures
from reelmill.eval.generation.loading import is_hf_folder
from reelmill.eval.generation.row_decoding import ByRows
from reelmill.tokenize.vision import VisionTokenizer
from reelmill.train.objectives.dida.objective import DidaConfig
from reelmill.train.objectives.dida.path import fitted_path
from reelmill.train.provenance import Training

WAYS = {
    "plain": "a token a pass",
    "exact-parallel": "several codes a pass by the same law, with other random numbers",
    "rows": "rows of a picture side by side, each --lag codes behind the one above: approximate, another law",
    "diagonal": "a diagonal of a picture a pass, by a model that has learned it (recipe diagonal)",
    "dida": "a whole picture in --steps passes, by a model that has learned it (recipe dida)",
    "auto": "exact-parallel where few pictures are decoded together, else plain",
}
LEARNED = ("diagonal", "dida")
"""Ways that have to be learned, each by the training objective of its name."""
WINDOW = 16
"""Codes that a pass of exact-parallel settles at most: the best for few pictures on a CPU (docs/benchmarks.md)."""
AUTO_ROWS = 4
"""Up to so many rows `auto` takes exact-parallel: there it takes less time on a CPU (docs/benchmarks.md)."""


@dataclass(frozen=True)
class Decoding:
    """A way to decode, ready to use: see `Engine` for `window` and `pictures`."""

    name: str = "plain"
    window: int = 1
    pictures: Pictures | None = None

    @property
    def label(self) -> str:
        """The name, and its steps or lag if it has them: two of equal label draw equal tokens."""
        return " ".join(str(value) for value in self.settings.values())

    @property
    def settings(self) -> dict[str, Any]:
        """What is written into files."""
        settings: dict[str, Any] = {"decode": self.name}
        if isinstance(self.pictures, Denoising):
            settings["steps"] = self.pictures.steps
        elif isinstance(self.pictures, ByRows) and self.pictures.lag is not None:
            settings["lag"] = self.pictures.lag
        return settings


PLAIN = Decoding()


def check_decode(name: str, steps: int | None = None, lag: int | None = None) -> None:
    """Raise ConfigError for an unknown way to decode, or for steps or a lag that it does not have."""
    if name not in WAYS:
        raise ConfigError(f"unknown way to decode {name!r}; {nearest(name, WAYS)}")
    for option, value, owner in (("steps", steps, "dida"), ("lag", lag, "rows")):
        if value is not None and name != owner:
            raise ConfigError(f"--{option} is {value}, and --decode is {name}; only --decode {owner} has it.")
        if value is not None and value < 1:
            raise ConfigError(f"--{option} is {value}; it must be at least 1.")


def learned_by(place: Path) -> tuple[str, ...]:
    """The ways of `LEARNED` that the model in a folder of `find_model` has learned.

    A Hugging Face folder has no second head, which `diagonal` needs, and not every one states how it was trained.
    """
    return _learned(Training.of(place), place)


def decoding_of(
    name: str, steps: int | None, lag: int | None, place: Path, vision: VisionTokenizer, rows: int
) -> Decoding:
    """The way to decode of that name for the model in `place`, a folder of `find_model`, in so many rows at a time.

    Raises ConfigError as `check_decode` does, and for a way that the model has not learned.
    """
    check_decode(name, steps, lag)
    if name == "auto":
        name = "exact-parallel" if rows <= AUTO_ROWS else "plain"
    training = Training.of(place)
    learned = _learned(training, place)
    if name in LEARNED and name not in learned:
        others = ", ".join(way for way in WAYS if way not in LEARNED or way in learned)
        raise ConfigError(
            f"{place} has not learned to decode by {name}; it can do {others}. `reelmill train {name}` with init set "
            "to it makes one that has (docs/generation.md)."
        )
    if name == "dida" and training is not None:
        settings = from_dict(DidaConfig, training.settings, "dida")
        return Decoding(name, 1, Denoising(fitted_path(vision.codebook()), steps or STEPS, settings.shift))
    if name == "diagonal":
        return Decoding(name, 1, ByDiagonals())
    if name == "rows":
        return Decoding(name, 1, ByRows(lag))
    return Decoding(name, WINDOW if name == "exact-parallel" else 1)


def _learned(training: Training | None, place: Path) -> tuple[str, ...]:
    able = [name for name in LEARNED if name != "diagonal" or not is_hf_folder(place)]
    return tuple(name for name in able if training is not None and name == training.objective)
