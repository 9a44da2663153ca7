"""Objectives: what a run learns. `OBJECTIVES` lists them by name; a module is imported only when it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reelmill.config import from_dict, nearest, to_dict
from reelmill.errors import ConfigError
from reelmill.registry import find_class
from reelmill.train.objectives.interface import Objective

OBJECTIVES: dict[str, str] = {
    "diagonal": "reelmill.train.objectives.diagonal:Diagonal",
    "dida": "reelmill.train.objectives.dida.objective:Dida",
    "next_token": "reelmill.train.objectives.next_token:NextToken",
    "preference": "reelmill.train.objectives.preference.objective:Preference",
}


def objective_class(name: str) -> type[Objective[Any]]:
    """The class behind a name or `package.module:Class`. ConfigError if there is none."""
    return find_class("objective", name, OBJECTIVES, Objective)  # type: ignore[type-abstract]


def settings_tables(objective: str, tables: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """The table of the recipe's objective by its name, with all defaults; empty for an objective without settings.

    A recipe may hold tables of other objectives in `OBJECTIVES`: they are checked and left out. Raises ConfigError for
    a table that belongs to no objective; `keys` are the recipe's other keys, for the hint.
    """
    chosen = objective_class(objective)
    found: dict[str, Any] = {chosen.name: {}}
    for name, table in tables.items():
        if name != chosen.name and name not in OBJECTIVES:
            raise ConfigError(f"unknown key {name!r}; {nearest(name, [*keys, *OBJECTIVES, chosen.name])}")
        owner = chosen if name == chosen.name else objective_class(name)
        found[name] = to_dict(from_dict(owner.Config, to_dict(table), name))
    settings = to_dict(from_dict(chosen.Config, found[chosen.name], chosen.name))
    return {chosen.name: settings} if settings else {}
