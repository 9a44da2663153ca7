"""Captions of a run folder: the stages of all sources, what waits, and recaptioning a run that exists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from reelmill.config import override
from reelmill.curation.captions.contract import ModelCaptioner
from reelmill.errors import ConfigError, MachineError
from reelmill.orchestration import caption, model_captions
from reelmill.orchestration.engine import EngineConfig, stop_ray
from reelmill.orchestration.recipe import Recipe, load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.stages import StageRunner
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.endpoints import warn_if_silent
from reelmill.pipelines.curate.verdicts import recover
from reelmill.pipelines.tables import print_table
from reelmill.terminal import log_to

_BY_SOURCE = """
SELECT caption_source AS source, model, count(*) FILTER (problem IS NULL) AS good, count(*) FILTER (problem IS NOT NULL)
    AS junk, mode(problem) AS mostly, round(avg(length(caption)) FILTER (problem IS NULL)) AS characters
FROM captions GROUP BY ALL ORDER BY ALL"""


def caption_selection(runner: StageRunner, selection: str) -> None:
    """Write the captions that the kept samples of a selection lack, source by source, as the recipe has them."""
    folder, config = runner.folder, runner.recipe.captions
    sources = {name: config.source(name) for name in config.sources}
    plain = [name for name, source in sources.items() if not isinstance(source, ModelCaptioner)]
    runner.run("caption", caption.WORKER, caption.caption_tasks(folder, selection, plain), caption_sources=plain)
    for name, source in sources.items():
        if isinstance(source, ModelCaptioner):
            tasks = caption.model_tasks(folder, selection, name, config)
            engine = _engine(source, runner.recipe.engine)
            if tasks and (address := source.address()):
                warn_if_silent(address, runner.console)
            runner.run(f"caption by {name}", model_captions.WORKER, tasks, engine, caption_sources=[name])


def required(recipe: Recipe) -> list[tuple[str, str]]:
    """Sources and models whose answer a sample must have before it is tokenized."""
    return recipe.captions.requested() if recipe.captions.wait else []


def require_captions(runner: StageRunner, selection: str) -> None:
    """Raise MachineError when a model that the recipe asks left kept samples without an answer, saying why."""
    waiting = caption.count_waiting(runner.folder, selection, runner.recipe.captions.requested())
    if not waiting:
        return
    counts = ", ".join(f"{samples} without an answer of {source}" for source, samples in waiting.items())
    why = "".join(f"\n  {n} x {message}" for message, n in runner.failures.most_common(3))
    meanwhile = (
        "A sample is not tokenized before it has one; --set captions.wait=false would take its next good caption."
        if runner.recipe.captions.wait
        else "They were tokenized with their next good caption."
    )
    raise MachineError(f"kept samples: {counts}.{why}\n{meanwhile} The same command again asks about these alone.")


def run_captions(
    out: Path,
    selection: str,
    source: str,
    assignments: Sequence[str],
    tokenize: bool,
    console: Console,
    options: Mapping[str, str] | None = None,
) -> None:
    """Caption the kept samples of an existing run by one source, whatever its recipe's sources are.

    The run's recipe stays as it is: its `prefer` chooses among all rows. `options` go into the source's own table. With
    `tokenize`, documents whose sample has now another caption are written anew.
    """
    from reelmill.orchestration.tokens import tokenize_selection

    folder = RunFolder(out).require()
    base = load_recipe(folder.root)
    for assignment in assignments:
        if not assignment.startswith(("captions.", "engine.")):
            raise ConfigError(f"--set {assignment!r}: recaptioning changes captions.… and engine.… only")
    own = [f"captions.{source}.{key}={json.dumps(value)}" for key, value in (options or {}).items()]
    recipe = override(replace(base, captions=replace(base.captions, sources=[source])), [*own, *assignments])
    recipes.check(recipe)
    if source not in recipe.captions.prefer:
        raise ConfigError(f"the recipe's captions.prefer does not name {source!r}: its captions would never be chosen")
    try:
        with folder.lock() as locked, log_to(locked.root, f"captions by {source} for selection {selection}"):
            recover(locked, base, console)
            runner = StageRunner(locked, recipe, console)
            caption_selection(runner, selection)
            if tokenize:
                tokenize_selection(runner, selection, required(recipe))
            with LedgerQueries(folder.root) as ledger:
                print_table(console, ledger.rows(_BY_SOURCE), "Captions")
            require_captions(runner, selection)
    finally:
        stop_ray()


def _engine(source: ModelCaptioner, engine: EngineConfig) -> EngineConfig:
    """A model that runs in the workers gets workers of its own; others are asked from the recipe's."""
    own = source.resources()
    return replace(engine, workers=own.workers, gpus_per_worker=own.gpus) if own else engine
