"""`reelmill select`: another verdict over the same scores, beside the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from reelmill.curation.ledger import samples_schema
from reelmill.curation.scoring import score_columns
from reelmill.errors import ConfigError
from reelmill.orchestration.recipe import Recipe, load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.stages import StageRunner
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate.recipes import DEFAULT, check_name, selected
from reelmill.pipelines.curate.run import complete_selection, score_skipped
from reelmill.pipelines.curate.verdicts import recover, write_verdicts
from reelmill.pipelines.ledger.presets import Preset, preset
from reelmill.pipelines.ledger.ranking import Ranking, rank
from reelmill.pipelines.tables import print_table
from reelmill.terminal import log_to, say

_CHANGED = """
SELECT coalesce(o.status, 'undecided') AS before, n.status AS after, n.rule, count(*) AS samples
FROM (SELECT * FROM verdicts WHERE selection = $2) n
LEFT JOIN (SELECT * FROM verdicts WHERE selection = $1) o USING (sample_id)
WHERE o.status IS DISTINCT FROM n.status OR o.rule IS DISTINCT FROM n.rule GROUP BY ALL ORDER BY samples DESC, rule"""

_LACKING = """
SELECT count(*) AS samples FROM verdicts WHERE selection = $1 AND status = 'kept'
AND sample_id NOT IN (SELECT sample_id FROM tokens WHERE starts_with(fingerprint, $2))
AND sample_id NOT IN (SELECT sample_id FROM failures WHERE starts_with(fingerprint, $2))"""


@dataclass(frozen=True)
class SelectOptions:
    """What the user asked for: a preset, what else changes (`--set`), the share to keep by which scores."""

    assignments: Sequence[str] = ()
    preset: str = ""
    keep: float | None = None
    scores: Sequence[str] = ()
    complete: bool = False

    def changes(self, own: Sequence[str] = ()) -> Preset:
        """The preset's changes, or the `own` ones of a selection of the recipe; then the user's. A share is kept only
        where one of them says so."""
        base = preset(self.preset) if self.preset else Preset(tuple(own), None)
        ranking = base.ranking
        if self.keep is not None:
            ranking = replace(ranking or Ranking(1.0), share=self.keep)
        if self.scores:
            if ranking is None:
                raise ConfigError("--score says what to rank by; say with --keep which share to keep")
            ranking = replace(ranking, scores=tuple(self.scores))
        return Preset((*base.assignments, *self.assignments), ranking)


@dataclass(frozen=True)
class Selected:
    """What a selection changed from the default, in rows, and what it lacks.

    `lacking`: kept samples without tokens. `fingerprint`: of tokens of its own; empty where it has the run's.
    """

    selection: str
    changed: list[dict[str, Any]]
    lacking: int
    fingerprint: str


def select(out: Path, name: str, options: SelectOptions, console: Console) -> Selected:
    """Write `verdicts/NAME.parquet` under the run's rules as changed; says what changed from the default.

    With `complete`, what the selection keeps and lacks is scored, captioned and tokenized, where it changes `tokens`
    under another fingerprint.
    """
    folder = RunFolder(out).require()
    check_name(name)
    base = load_recipe(folder.root)
    changes = options.changes(base.selections.get(name, ()))
    assignments = list(changes.assignments)
    recipe = selected(base, assignments)
    with folder.lock() as locked, log_to(locked.root, f"select {name}: {'; '.join(assignments) or 'as the run'}"):
        recover(locked, base, console)
        if changes.ranking is not None:
            if options.complete:  # before it is ranked: the same command again must find the same ranks
                write_verdicts(locked, name, recipe, assignments)
                score_skipped(StageRunner(locked, recipe, console), name)
            assignments += _ranks(locked, recipe, changes.ranking, console)
            recipe = selected(base, assignments)
        write_verdicts(locked, name, recipe, assignments)
        runner = StageRunner(locked, recipe, console)
        runner.database.write()
        if options.complete:
            complete_selection(runner, name)
    annotated = recipe.annotations if recipe.tokens.narration.carry else base.annotations
    fingerprint = "" if (recipe.tokens, annotated) == (base.tokens, base.annotations) else _fingerprint(recipe)
    with LedgerQueries(folder.root) as ledger:
        (lacking,) = ledger.rows(_LACKING, [name, fingerprint])
        return Selected(name, ledger.rows(_CHANGED, [DEFAULT, name]), lacking["samples"], fingerprint)


def _ranks(folder: RunFolder, recipe: Recipe, ranking: Ranking, console: Console) -> list[str]:
    """Print how samples are ranked; returns the rules that keep the best."""
    columns = samples_schema(score_columns(recipe.score)).names
    with LedgerQueries(folder.root) as ledger:
        ranked = rank(ledger, recipe, ranking, columns)
    for one in ranked:
        title = (
            f"{one.samples:,} ranked of kind {one.kind}; the best {ranking.share:.0%} have a mean of {one.bound:.3f}"
        )
        print_table(console, one.scores, f"{title} deviations or more")
    return [assignment for one in ranked for assignment in one.assignments()]


def _fingerprint(recipe: Recipe) -> str:
    """Of the recipe's tokens."""
    from reelmill.orchestration import tokens
    from reelmill.tokenize import vision

    return tokens.recipe_fingerprint(recipe, vision.load(recipe.tokens.tokenizer).fingerprint)


def print_selected(selected: Selected, console: Console) -> None:
    """What changed, and what is still to be done."""
    print_table(console, selected.changed, f"{selected.selection}, against {DEFAULT}")
    if selected.lacking:
        say(console, f"{selected.lacking} kept samples have no tokens yet; add --complete to make them")
    elif selected.fingerprint:
        own = f"--selection {selected.selection} --set data.fingerprint={selected.fingerprint[:12]}"
        say(console, f"It has tokens of its own; train on them with {own}")
