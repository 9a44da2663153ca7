"""Recipes by name, of whatever they are for, as TOML that explains itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from reelmill.config import from_dict, nearest, override, read_toml
from reelmill.config_text import explained
from reelmill.curation import scorers
from reelmill.curation.captions.config import CAPTION_SOURCES
from reelmill.curation.captions.contract import CaptionSource
from reelmill.errors import ConfigError
from reelmill.pipelines.curate import recipes as curation
from reelmill.registry import find_class


@dataclass(frozen=True)
class Group:
    """Recipes for one command."""

    use: str
    recipes: Callable[[], Mapping[str, Callable[[], Any]]]
    config: Callable[[], type]


def _training() -> Mapping[str, Callable[[], Any]]:
    from reelmill.train.recipes import RECIPES

    return RECIPES


def _training_config() -> type:
    from reelmill.train.config import TrainConfig

    return TrainConfig


def _tokenizers() -> Mapping[str, Callable[[], Any]]:
    from reelmill.train.vision.recipes import RECIPES

    return RECIPES


def _tokenizer_config() -> type:
    from reelmill.train.vision.config import TokenizerRecipe

    return TokenizerRecipe


def _curation_config() -> type:
    from reelmill.orchestration.recipe import Recipe

    return Recipe


GROUPS = {
    "curation": Group("reelmill curate DUMP --out OUT --recipe NAME", lambda: curation.RECIPES, _curation_config),
    "training": Group("reelmill train NAME --data OUT", _training, _training_config),
    "tokenizers": Group("reelmill tokenizer train NAME --data FOLDER --out OUT", _tokenizers, _tokenizer_config),
}


def shown(name: str, assignments: Iterable[str]) -> str:
    """The recipe of that name, or of a TOML file, with `assignments` as of `--set`.

    Raises ConfigError for an unknown name, and where `--set` or the file is wrong.
    """
    group = _group_of(name)
    use = GROUPS[group].use.replace("NAME", name)
    if group == "curation":
        loaded = curation.load(name, assignments)
        return f"# {use}\n{curation.graph(loaded)}\n\n{explained(loaded, _options)}"
    is_file = name.endswith(".toml")
    made = from_dict(GROUPS[group].config(), read_toml(Path(name))) if is_file else GROUPS[group].recipes()[name]()
    return f"# {use}\n\n{explained(override(made, assignments), _settings)}"


def _group_of(name: str) -> str:
    """What a recipe is for: by its name, or by the keys of its file."""
    if name.endswith(".toml"):
        keys = read_toml(Path(name)).keys()
        if "base" in keys:
            return "curation"
        known = {group: len(keys & {f.name for f in fields(one.config())}) for group, one in GROUPS.items()}
        return max(known, key=lambda group: known[group])
    every = {recipe: group for group, one in GROUPS.items() for recipe in one.recipes()}
    if name not in every:
        raise ConfigError(f"unknown recipe {name!r}; {nearest(name, every)}, or a .toml file")
    return every[name]


def _options(table: str, name: str, values: Mapping[str, Any]) -> type | None:
    """The options of a scorer, or of a caption source of one's own."""
    if table == "score.scorers":
        return scorers.scorer_class(str(values.get("use", name))).Config
    if table == "captions":
        found = find_class("caption source", str(values.get("use", name)), CAPTION_SOURCES, CaptionSource)
        config: type = found.Config
        return config
    return None


def _settings(table: str, name: str, values: Mapping[str, Any]) -> type | None:
    """The settings of a training objective."""
    from reelmill.train.objectives import OBJECTIVES, objective_class

    return objective_class(name).Config if not table and name in OBJECTIVES else None
