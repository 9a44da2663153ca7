"""How many frames show what an earlier one of the sample has shown, by CLIP's features.

Emu3.5 (section 3.1.1) leaves near-equal key frames out by DINO's and FG-CLIP's features, and discloses no bound. CLIP's
weights come from a model hub only; without them, or without open_clip, the scorer is off: `available` says why, a
warning is logged, every score is None. No recipe has it by default: `[score.scorers.clip_repeats]` adds it.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from reelmill import weights
from reelmill.curation.interfaces import Sample, Scorer
from reelmill.curation.scorers.aesthetic import ARCHITECTURE, CLIP_WEIGHTS
from reelmill.curation.scorers.clip import Clip
from reelmill.errors import WeightsError

BATCH = 32

log = logging.getLogger(__name__)


class ClipRepeats(Scorer):
    """`clip_repeated`: share of the frames whose cosine with an earlier one is at least `alike`."""

    columns: ClassVar = {"clip_repeated": "DOUBLE"}
    kinds: ClassVar = ("video",)

    @dataclass
    class Config:
        """Which weights, and what is alike."""

        alike: float = 0.95
        """Cosine of two frames from which on they show the same; ours."""
        model: str = ARCHITECTURE
        """open_clip's name of the architecture."""
        checkpoint: str = ""
        """A file of weights; the registry's `clip-vit-l14` when empty."""

    def available(self) -> str | None:
        """None when the score can be made on this machine, else the reason why not and what to do."""
        if importlib.util.find_spec("open_clip") is None:
            return "clip_repeated is off: open_clip is not installed. Run: pip install 'reelmill[aesthetic]'"
        try:
            self._file()
        except WeightsError as error:
            return f"clip_repeated is off: {error}"
        return None

    def setup(self) -> None:
        """Load CLIP, or say loudly that the score is off."""
        reason = self.available()
        self._clip = None if reason else Clip(self.config.model, self._file())
        if reason:
            log.warning(reason)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample."""
        return [{"clip_repeated": self._score(sample.frames.images)} for sample in samples]

    def _score(self, images: npt.NDArray[np.uint8]) -> float | None:
        if self._clip is None or not len(images):
            return None
        parts = [self._clip.images(images[n : n + BATCH]).cpu().numpy() for n in range(0, len(images), BATCH)]
        features = np.concatenate(parts)
        is_alike = np.tril(features @ features.T >= self.config.alike, -1)
        return float(np.mean(is_alike.any(axis=1)))

    def _file(self) -> Path:
        if not self.config.checkpoint:
            return weights.path(CLIP_WEIGHTS)
        file = Path(self.config.checkpoint)
        if not file.is_file():
            raise WeightsError(f"there is no file {file}, which score.scorers.clip_repeats.checkpoint names.")
        return file
