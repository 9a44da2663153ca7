"""Sound and speech of a run folder: the stages between score and decide."""

from __future__ import annotations

from dataclasses import replace

from reelmill.curation.speech.contract import SUBTITLES, transcriber
from reelmill.curation.speech.measure import sound_fingerprint
from reelmill.errors import MachineError
from reelmill.orchestration import audio
from reelmill.orchestration import transcribe as stage
from reelmill.orchestration.engine import EngineConfig
from reelmill.orchestration.stages import StageRunner
from reelmill.pipelines.curate.endpoints import warn_if_silent


def hear(runner: StageRunner, *, retry: bool = False) -> None:
    """Measure the sound of items that have no measures yet, where the recipe asks for it.

    `retry`: also those whose sound the machine failed to decode.
    """
    sound = runner.recipe.sound
    if sound.measure:
        tasks = audio.audio_tasks(runner.folder, sound_fingerprint(sound), retry=retry)
        runner.run("audio", audio.WORKER, tasks)


def transcribe(runner: StageRunner, selection: str) -> bool:
    """Transcribe the items of a selection that lack it, source by source; False when nothing was left to do.

    An item whose samples are all rejected already is left alone.
    """
    config, ran = runner.recipe.transcripts, False
    for name in config.sources:
        tasks = stage.transcript_tasks(runner.folder, selection, name, config)
        if tasks and name != SUBTITLES:
            source = transcriber(name, config)
            source.require()
            if address := source.address():
                warn_if_silent(address, runner.console)
        head, engine = f"transcribe by {name}", _engine(name, runner)
        ran |= runner.run(head, stage.WORKER, tasks, engine, transcript_source=name)
    return ran


def require_transcripts(runner: StageRunner, selection: str) -> None:
    """Raise MachineError when a source left items without an answer, saying why."""
    config = runner.recipe.transcripts
    waiting = {name: stage.count_waiting(runner.folder, selection, name, config) for name in config.sources}
    if not any(waiting.values()):
        return
    counts = ", ".join(f"{count} without a transcript by {name}" for name, count in waiting.items() if count)
    why = "".join(f"\n  {n} x {message}" for message, n in runner.failures.most_common(3))
    raise MachineError(f"items: {counts}.{why}\nThe same command again asks about these alone.")


def _engine(name: str, runner: StageRunner) -> EngineConfig | None:
    """A model that runs in the workers gets workers of its own; others are asked from the recipe's."""
    own = None if name == SUBTITLES else transcriber(name, runner.recipe.transcripts).resources()
    return replace(runner.recipe.engine, workers=own.workers, gpus_per_worker=own.gpus) if own else None
