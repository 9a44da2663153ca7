"""Judgements of a run folder's narrated videos: the stage between transcripts and captions."""

from __future__ import annotations

from reelmill.curation.judging.agreement import checkpoint
from reelmill.curation.judging.config import JUDGES
from reelmill.curation.judging.perplexity import require
from reelmill.errors import MachineError
from reelmill.orchestration import judge as stage
from reelmill.orchestration.stages import StageRunner
from reelmill.pipelines.curate.endpoints import warn_if_silent


def judge(runner: StageRunner, selection: str) -> bool:
    """Ask the recipe's judges about the kept samples of a selection; False when nothing was left to do.

    Raises MachineError when a judge left samples without an answer, saying why: nothing is tokenized that a rule on
    their judgement may reject.
    """
    config, ran = runner.recipe.judging, False
    for name in config.ask:
        tasks = stage.judge_tasks(runner.folder, selection, name, config)
        if tasks and name == "agreement":
            checkpoint(config.clip)
        elif tasks and name == "perplexity":
            require(config.lm.model)
        elif tasks:
            warn_if_silent(getattr(config, JUDGES[name]).url, runner.console)
        ran |= runner.run(f"judge {name}", stage.WORKER, tasks, judge=name)
        if waiting := stage.count_waiting(runner.folder, selection, name, config):
            why = "".join(f"\n  {n} x {message}" for message, n in runner.failures.most_common(3))
            advice = "The same command again asks about these alone."
            raise MachineError(f"{waiting} kept samples wait for the judge of {name}.{why}\n{advice}")
    return ran
