"""`reelmill curate --dry-run` and `--plan-only`: what the command would do.

Dumps are read as the plan reads them; nothing is written.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from reelmill.curation.ledger import PLAN
from reelmill.curation.scoring import score_fingerprint
from reelmill.orchestration.listed import planned_rows
from reelmill.orchestration.planned import PlanReader
from reelmill.orchestration.recipe import Recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate.remote import objects_at, total
from reelmill.pipelines.curate.run import CurateOptions, check_curation, plan_dump
from reelmill.pipelines.curate.survey import Survey, print_survey, survey
from reelmill.pipelines.tables import print_table
from reelmill.terminal import say

_SCORED = "SELECT DISTINCT unit FROM items WHERE score_fingerprint = ?"


@dataclass(frozen=True)
class Preview:
    """What would be done: a line a dump, new items by kind with their MB, and how much there is to score."""

    plan: dict[str, str]
    new: list[dict[str, Any]]
    units_to_score: int
    items_to_score: int
    scorers: list[str]
    survey: Survey | None = None
    """With `--plan-only`."""


def preview(
    dumps: Sequence[Path | str],
    out: Path,
    recipe: Recipe,
    options: CurateOptions,
    console: Console,
    *,
    with_survey: bool = False,
) -> Preview:
    """What `curate` would do with these arguments; raises what it would raise before it begins."""
    folder = RunFolder(out)
    check_curation(dumps, folder, recipe, options, console)
    with tempfile.TemporaryDirectory(prefix="reelmill-plan-") as place:
        planned = RunFolder(Path(place))
        if folder.plan_path.is_file():
            shutil.copyfile(folder.plan_path, planned.plan_path)
        before = planned_rows(planned)
        lines = {str(dump): str(plan_dump(planned, dump, recipe, options)) for dump in dumps if isinstance(dump, Path)}
        lines |= {dump: f"{total(objects_at(dump))} to copy first" for dump in dumps if isinstance(dump, str)}
        if not planned.plan_path.is_file():
            planned.commit(planned.plan_path, PLAN.empty_table())
        done: set[int] = set()
        if folder.exists():
            with LedgerQueries(folder.root) as ledger:
                done = {row["unit"] for row in ledger.rows(_SCORED, [score_fingerprint(recipe.score)])}
        with planned.plan() as plan:
            waiting, new = _counts(plan, before, done)
            surveyed = survey(plan, done, folder, recipe) if with_survey else None
    return Preview(lines, new, len(waiting), waiting.total(), list(recipe.score.scorers), surveyed)


def _counts(plan: PlanReader, before: int, done: Collection[int]) -> tuple[Counter[int], list[dict[str, Any]]]:
    """Items by unit that wait to be scored, and by kind those behind the first `before` rows, with their MB."""
    waiting, items, size = Counter[int](), Counter[str](), Counter[str]()
    at = 0
    for part in plan.batches(["unit", "kind", "size"]):
        waiting.update(unit for unit in part["unit"].to_pylist() if unit not in done)
        for row in part.slice(max(before - at, 0)).to_pylist():
            items[row["kind"]] += 1
            size[row["kind"]] += row["size"]
        at += len(part)
    new = [{"kind": kind, "items": items[kind], "megabytes": round(size[kind] / 1e6, 1)} for kind in sorted(items)]
    return waiting, new


def print_preview(found: Preview, console: Console) -> None:
    """The same on a terminal."""
    for dump, line in found.plan.items():
        say(console, f"{dump}: {line}", head="plan")
    if found.survey:
        print_survey(found.survey, console)
    elif found.new:
        print_table(console, found.new, "New items")
    scorers = ", ".join(found.scorers) or "no scorer"
    say(console, f"{found.items_to_score:,} items in {found.units_to_score:,} units, by {scorers}", head="score")
    flag = "--plan-only" if found.survey else "--dry-run"
    say(console, f"Then decide, caption and tokenize. Nothing was written: leave out {flag} to do it.")
