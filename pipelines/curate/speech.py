"""Sound and speech of a run folder: the stages between score and decide."""

from __future__ import annotations

from reelmill.curation.speech.measure import sound_fingerprint
from reelmill.orchestration import audio
from reelmill.orchestration.stages import StageRunner


def hear(runner: StageRunner, *, retry: bool = False) -> None:
    """Measure the sound of items that have no measures yet, where the recipe asks for it.

    `retry`: also those whose sound the machine failed to decode.
    """
    sound = runner.recipe.sound
    if sound.measure:
        tasks = audio.audio_tasks(runner.folder, sound_fingerprint(sound), retry=retry)
        runner.run("audio", audio.WORKER, tasks)
