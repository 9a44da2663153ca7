"""Running stages on the engine: the settings that workers share, progress, and what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console

from reelmill.config import to_dict
from reelmill.curation.scoring import score_fingerprint
from reelmill.orchestration.engine import EngineConfig, Receipt, Task, run_tasks
from reelmill.orchestration.positions import positions
from reelmill.orchestration.progress import follow
from reelmill.orchestration.recipe import Recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import Database

SHOWN = 3
"""Items in progress that are named."""


class StageRunner:
    """Runs the stages of one recipe over one run folder. `failures` counts the messages of what a rerun tries again."""

    def __init__(self, folder: RunFolder, recipe: Recipe, console: Console) -> None:
        self.folder, self.recipe, self.console = folder, recipe, console
        self.score_fingerprint = score_fingerprint(recipe.score)
        self.failures: Counter[str] = Counter()
        self.database = Database(folder.root)
        self._settings = {
            "out": str(folder.root),
            "epoch": folder.epoch,
            "score": to_dict(recipe.score),
            "rules": {name: to_dict(rule) for name, rule in recipe.rules.items()},
            "sound": to_dict(recipe.sound),
            "transcripts": to_dict(recipe.transcripts),
            "captions": to_dict(recipe.captions),
            "annotations": to_dict(recipe.annotations),
            "judging": to_dict(recipe.judging),
            "tokens": to_dict(recipe.tokens),
        }

    def run(
        self, stage: str, worker: str, tasks: list[Task], engine: EngineConfig | None = None, **settings: Any
    ) -> bool:
        """Run a stage, on the recipe's engine unless another is given; False when nothing was left to do.

        `settings` go to the stage's workers beside those that all workers share.
        """
        return self.follow(
            stage, tasks, run_tasks(worker, {**self._settings, **settings}, tasks, engine or self.recipe.engine)
        )

    def follow(self, stage: str, tasks: list[Task], receipts: Iterable[Receipt]) -> bool:
        """The same for a stage that runs in this process and gives its receipts as its tasks end."""
        self.database.refresh()
        follow(stage, tasks, self._watched(receipts), self.console, self._doing)
        self.database.refresh()
        return bool(tasks)

    def _doing(self) -> str:
        """The items that workers are at, for the stages that note them."""
        found = positions(self.folder)
        if not found:
            return ""
        names = [" ".join(filter(None, (position.uri, position.words))) for position in found]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return f"at {', '.join(names[:SHOWN])}{more}"

    def _watched(self, receipts: Iterable[Receipt]) -> Iterator[Receipt]:
        for receipt in receipts:
            self.database.show_first_files()
            if "failure" in receipt:
                self.failures[receipt["failure"]] += receipt["failed"]
            yield receipt
