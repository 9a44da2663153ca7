"""Captions of a run folder: the stages of all sources, what waits, and recaptioning a run that exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from reelmill.config import from_dict, override, read_toml
from reelmill.curation.captions.config import MODEL_SOURCES
from reelmill.errors import ConfigError, MachineError
from reelmill.orchestration import caption
from reelmill.orchestration.engine import EngineConfig, stop_ray
from reelmill.orchestration.recipe import Recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.stages import StageRunner
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.tables import print_table

WORKERS = {**caption.MODEL_WORKERS, "checkpoint": "reelmill.pipelines.curate.checkpoint_captioner:CheckpointWorker"}
"""Who asks each model source; a checkpoint of our own is run by rooms that orchestration does not know."""

_BY_SOURCE = """
SELECT caption_source AS source, model, count(*) FILTER (problem IS NULL) AS good, count(*) FILTER (problem IS NOT NULL)
    AS junk, mode(problem) AS mostly, round(avg(length(caption)) FILTER (problem IS NULL)) AS characters
FROM captions GROUP BY ALL ORDER BY ALL"""


def caption_selection(runner: StageRunner, selection: str) -> None:
    """Write the captions that the kept samples of a selection lack, source by source, as the recipe has them."""
    folder, config = runner.folder, runner.recipe.captions
    runner.run("caption", caption.WORKER, caption.caption_tasks(folder, selection, config))
    for source in config.sources:
        if source in MODEL_SOURCES:
            tasks = caption.model_tasks(folder, selection, source, config)
            runner.run(f"caption by {source}", WORKERS[source], tasks, _engine(source, runner.recipe))


def awaited(recipe: Recipe) -> list[tuple[str, str]]:
    """Sources and models whose answer a sample must have before it is tokenized."""
    return recipe.captions.asked() if recipe.captions.wait else []


def require_captions(runner: StageRunner, selection: str) -> None:
    """Raise MachineError when a model that the recipe asks left kept samples without an answer, saying why."""
    waiting = caption.count_waiting(runner.folder, selection, runner.recipe.captions.asked())
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
    out: Path, selection: str, source: str, assignments: Sequence[str], tokenize: bool, console: Console
) -> None:
    """Caption the kept samples of an existing run by one source, whatever its recipe's sources are.

    The run's recipe stays as it is: its `prefer` chooses among all rows. With `tokenize`, documents whose sample
    has now another caption are written anew.
    """
    from reelmill.orchestration.tokens import tokenize_selection

    folder = RunFolder(out).require()
    base = from_dict(Recipe, read_toml(folder.recipe_path))
    for assignment in assignments:
        if not assignment.startswith(("captions.", "engine.")):
            raise ConfigError(f"--set {assignment!r}: recaptioning changes captions.… and engine.… only")
    recipe = override(replace(base, captions=replace(base.captions, sources=[source])), assignments)
    recipes.check(recipe)
    if source not in recipe.captions.prefer:
        raise ConfigError(f"the recipe's captions.prefer does not name {source!r}: its captions would never be chosen")
    try:
        with folder.lock() as locked:
            locked.sweep()
            runner = StageRunner(locked, recipe, console)
            caption_selection(runner, selection)
            if tokenize:
                tokenize_selection(runner, selection, awaited(recipe))
            with LedgerQueries(folder.root) as ledger:
                print_table(console, ledger.rows(_BY_SOURCE), "Captions")
            require_captions(runner, selection)
    finally:
        stop_ray()


def _engine(source: str, recipe: Recipe) -> EngineConfig:
    """Models that run here get actors of their own, with GPUs; an endpoint is asked from the recipe's workers."""
    captions = recipe.captions
    if source == "endpoint":
        return recipe.engine
    own = captions.vllm if source == "vllm" else captions.checkpoint
    return replace(recipe.engine, workers=own.workers, gpus_per_worker=float(own.gpus))
