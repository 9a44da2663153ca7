"""`reelmill curate --dry-run` and `--plan-only`: what the command would do.

Dumps are read as the plan reads them; nothing is written.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
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
from reelmill.pipelines.curate.remote import Object, looked_into, objects_at, total
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
    at_addresses: dict[str, Survey] = field(default_factory=dict)
    """Likewise, of each dump at an address: what a part of it says of the whole."""


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
        far = {dump: objects_at(dump) for dump in dumps if isinstance(dump, str)}
        lines |= {dump: f"{total(found)} to copy first" for dump, found in far.items()}
        surveys: dict[str, Survey | None] = {}
        for number, (dump, found) in enumerate(far.items() if with_survey else ()):
            here = Path(place, f"looked-{number}")
            said, surveys[dump] = _looked_at(dump, found, here, folder, recipe, options)
            lines[dump] += said
        if not planned.plan_path.is_file():
            planned.commit(planned.plan_path, PLAN.empty_table())
        done: set[int] = set()
        if folder.exists():
            with LedgerQueries(folder.root) as ledger:
                done = {row["unit"] for row in ledger.rows(_SCORED, [score_fingerprint(recipe.score)])}
        with planned.plan() as plan:
            waiting, new = _counts(plan, before, done)
            surveyed = survey(plan, done, folder, recipe) if with_survey else None
    at_addresses = {dump: found for dump, found in surveys.items() if found is not None}
    return Preview(lines, new, len(waiting), waiting.total(), list(recipe.score.scorers), surveyed, at_addresses)


def _looked_at(
    dump: str, found: Sequence[Object], place: Path, folder: RunFolder, recipe: Recipe, options: CurateOptions
) -> tuple[str, Survey | None]:
    """What a part of a dump at an address says of all of it, and in words which part that is."""
    looked = looked_into(dump, found, place / "part")
    if looked is None:
        return "", None
    planned = RunFolder(place)
    plan_dump(planned, looked.path, recipe, options)
    words = f"; {looked.objects} of them, {looked.bytes / 1e6:,.1f} MB, were looked into"
    if looked.cut is not None:
        words = f"; the first {looked.bytes / 1e6:,.1f} MB of one were looked into"
    with planned.plan() as plan:
        return words, survey(plan, (), folder, recipe, looked.of_bytes / looked.bytes, looked.cut)


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
        if found.survey.formats or found.survey.refused or not found.at_addresses:
            print_survey(found.survey, console)
        for dump, there in found.at_addresses.items():
            say(console, "about, by the part that was looked into", head=dump)
            print_survey(there, console)
    elif found.new:
        print_table(console, found.new, "New items")
    scorers = ", ".join(found.scorers) or "no scorer"
    say(console, f"{found.items_to_score:,} items in {found.units_to_score:,} units, by {scorers}", head="score")
    flag = "--plan-only" if found.survey else "--dry-run"
    say(console, f"Then decide, caption and tokenize. Nothing was written: leave out {flag} to do it.")
