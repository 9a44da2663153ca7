"""Annotations of a run folder's narrated samples: the stage between captions and tokens, and what waits for it."""

from __future__ import annotations

from reelmill.errors import MachineError
from reelmill.orchestration import annotate as stage
from reelmill.orchestration.stages import StageRunner
from reelmill.pipelines.curate.endpoints import warn_if_silent


def annotate(runner: StageRunner, selection: str) -> None:
    """Ask for the annotations that the kept samples of a selection lack, where its documents carry any."""
    recipe = runner.recipe
    if recipe.tokens.narration.carry:
        for_words = recipe.transcripts.wait and bool(recipe.transcripts.sources)
        tasks = stage.annotation_tasks(runner.folder, selection, recipe.annotations, for_words=for_words)
        for kind in ("scene", "segments") if tasks else ():
            warn_if_silent(recipe.annotations.endpoint_of(kind).url, runner.console)
        runner.run("annotate", stage.WORKER, tasks)


def require_annotations(runner: StageRunner, selection: str) -> None:
    """Raise MachineError when a model left samples without an answer, saying why."""
    recipe = runner.recipe
    if not recipe.tokens.narration.carry:
        return
    if not (waiting := stage.count_waiting(runner.folder, selection, recipe.annotations)):
        return
    why = "".join(f"\n  {n} x {message}" for message, n in runner.failures.most_common(3))
    raise MachineError(
        f"{waiting} kept samples lack annotations, and have no documents yet.{why}\nThe same command again asks about "
        "these alone."
    )
