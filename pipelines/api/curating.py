"""`reelmill.curate`: the command of that name, from Python."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console

from reelmill.compat import restored_threads
from reelmill.orchestration.recipe import Recipe
from reelmill.pipelines.api.run import Run, open_run
from reelmill.pipelines.api.settings import Settings, assignments
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions
from reelmill.pipelines.curate.run import curate as run_curation

Place = str | os.PathLike[str]


def curate(
    dumps: Place | Sequence[Place],
    out: Place,
    *,
    recipe: Place | Recipe = "video",
    set: Settings = (),
    executor: Literal["ray", "inline"] | None = None,
    workers: int | None = None,
    limit: int | None = None,
    sample: float = 1.0,
    prefix: str = "",
    update: bool = False,
    retry: Collection[Literal["machine", "scorer"]] = (),
    quiet: bool = False,
) -> Run:
    """Bring the run folder `out` to the state that `dumps` and `recipe` ask for, and open it.

    Does only what is missing, as `reelmill curate` does: after an interruption, or with a new dump, call it again.
    `dumps`: folder trees or WebDataset tars. `recipe`: a name, a TOML file, or a `Recipe`; `set` changes values of it.
    `executor`: "inline" works in this process, "ray" on Ray (a private one, or that of RAY_ADDRESS); the recipe's when
    not given. The other arguments are those of the command. `quiet` prints nothing.

    Raises ConfigError where `out` was made with another recipe and `update` is off, DataError for a dump that is none,
    WeightsError for missing weights, MachineError where the machine failed.
    """
    engine = {"engine.executor": executor, "engine.workers": workers}
    lines = [*assignments(set), *assignments({key: value for key, value in engine.items() if value is not None})]
    if isinstance(recipe, Recipe):
        loaded = recipes.changed(recipe, lines)
        recipes.check(loaded)
    else:
        loaded = recipes.load(os.fspath(recipe), lines)
    places = [Path(dumps)] if isinstance(dumps, str | os.PathLike) else [Path(dump) for dump in dumps]
    options = CurateOptions(prefix, limit, sample, update, frozenset(retry))
    with restored_threads():
        folder = run_curation(places, Path(out), loaded, options, Console(quiet=quiet))
    return open_run(folder.root)
