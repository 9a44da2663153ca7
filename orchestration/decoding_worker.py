"""What the workers of all stages that decode again have in common: the run folder, its sources, a decoding child."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reelmill.config import from_dict, to_dict
from reelmill.curation.scoring import ScoreConfig
from reelmill.isolation.parent import Child
from reelmill.orchestration.positions import Positions
from reelmill.orchestration.runfolder import RunFolder


class DecodingWorker:
    """A worker (`engine.Worker`) that reads items of a run folder through a child of its own."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._folder = RunFolder(Path(settings["out"]), settings["epoch"])
        score = from_dict(ScoreConfig, settings["score"])
        self._options = to_dict(score.decode)
        self._child = Child(score.isolation, self._at)
        self._positions: Positions | None = None
        self._sources = self._folder.sources()

    def _at(self, at_s: float, of_s: float | None) -> None:
        if self._positions is not None:
            self._positions.at(at_s, of_s)

    def close(self) -> None:
        """Stop the decoding child."""
        self._child.close()
