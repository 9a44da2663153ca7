"""Verdicts of a run folder: decided, decided again when samples come or go, and after an interrupted `forget`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console

from reelmill.curation.decide import decide
from reelmill.curation.scoring import NARRATED
from reelmill.errors import ConfigError
from reelmill.orchestration.alike import find_alike
from reelmill.orchestration.changed import send_back
from reelmill.orchestration.duplicates import find_duplicates
from reelmill.orchestration.forgotten import carry_out
from reelmill.orchestration.recipe import Recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.table_files import read_schema
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate.recipes import DEFAULT, changed
from reelmill.terminal import say

_ASSIGNMENTS = "reelmill.set"


def recover(folder: RunFolder, recipe: Recipe, console: Console) -> int:
    """Finish a `forget` that was interrupted, and send items that changed back to scoring; returns how many samples
    the `forget` took captions or tokens from.

    Whatever writes to a run folder does this first.
    """
    pruned, changed = carry_out(folder), send_back(folder)
    if changed:
        say(console, f"{changed} items changed since they were scored", head="changed", style="bold yellow")
    if changed or pruned is not None:
        decide_again(folder, recipe, console)
    return pruned or 0


def write_verdicts(folder: RunFolder, selection: str, recipe: Recipe, assignments: Sequence[str] = ()) -> None:
    """Decide: `verdicts/SELECTION.parquet` over all committed samples.

    `assignments`: how the selection's rules differ from the run's. They go into the file, so that it can be decided
    again when samples come or go.
    """
    with LedgerQueries(folder.root) as ledger:
        views = ledger.connection("items", "scored", "duplicates")
        verdicts = decide(views, recipe.rules, recipe.licences, recipe.duplicates, recipe.quotas)
    noted = verdicts.replace_schema_metadata({_ASSIGNMENTS: json.dumps(list(assignments))})
    folder.commit(folder.root / "verdicts" / f"{selection}.parquet", noted)


def assignments_of(folder: RunFolder, selection: str) -> list[str]:
    """How a selection's rules differ from the run's, as `reelmill select` was told."""
    metadata = read_schema(folder.root / "verdicts" / f"{selection}.parquet").metadata or {}
    found: list[str] = json.loads(metadata.get(_ASSIGNMENTS.encode(), b"[]"))
    return found


def forget_selections(folder: RunFolder, before: Recipe, after: Recipe) -> None:
    """Remove selections of a recipe as it was before, which nobody has changed since, where it now says otherwise."""
    for name, assignments in before.selections.items():
        path = folder.root / "verdicts" / f"{name}.parquet"
        if after.selections.get(name) != assignments and path.is_file() and assignments_of(folder, name) == assignments:
            folder.remove(path)


def decide_again(folder: RunFolder, recipe: Recipe, console: Console) -> None:
    """Decide anew for the default, the recipe's selections and every other one; one whose rules no longer fit is named
    and stays.

    Units that are new or have changed are compared with all others first, where samples have hashes.
    """
    find_duplicates(folder, recipe.duplicates.against, recipe.duplicates.exclude, recipe.duplicates.semantic)
    if NARRATED in recipe.score.expanders.values():
        find_alike(folder)
    write_all_verdicts(folder, recipe, console)


def write_all_verdicts(folder: RunFolder, recipe: Recipe, console: Console) -> None:
    """The same without looking for copies: where only what later stages measured is new."""
    write_verdicts(folder, DEFAULT, recipe)
    names = [path.stem for path in sorted((folder.root / "verdicts").glob("*.parquet"))]
    there = {name: assignments_of(folder, name) for name in names if name not in (DEFAULT, "schema")}
    for name, assignments in {**recipe.selections, **there}.items():
        try:
            write_verdicts(folder, name, changed(recipe, assignments), assignments)
        except ConfigError as error:
            say(console, str(error), head=f"selection {name} is as it was:", style="bold yellow")
