"""Aesthetics: the LAION-Aesthetics predictor v1 (a linear head on CLIP ViT-L/14), as Emu3 uses it.

Emu3 (section 2) scores three frames of a clip and goes by the lowest. CLIP's weights come from a model hub only;
without them, or without open_clip, the scorer is off: `available` says why, a warning is logged, every score is None.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from reelmill import weights
from reelmill.curation.interfaces import Sample, Scorer
from reelmill.curation.scorers.clip import Clip
from reelmill.errors import WeightsError

if TYPE_CHECKING:
    import torch

ARCHITECTURE = "ViT-L-14-quickgelu"  # OpenAI's CLIP uses the quick form of GELU
CLIP_WEIGHTS, HEAD_WEIGHTS = "clip-vit-l14", "laion-aesthetic-l14"
FRAMES = 3

log = logging.getLogger(__name__)


class Aesthetic(Scorer):
    """`aesthetic_score`, about 1 to 10: the lowest of the first, the middle and the last frame; an image's own."""

    columns: ClassVar = {"aesthetic_score": "DOUBLE"}

    @classmethod
    def available(cls) -> str | None:
        """None when the score can be made on this machine, else the reason why not and what to do."""
        if importlib.util.find_spec("open_clip") is None:
            return "aesthetic_score is off: open_clip is not installed. Run: pip install 'reelmill[aesthetic]'"
        for name in (CLIP_WEIGHTS, HEAD_WEIGHTS):
            try:
                weights.path(name)
            except WeightsError as error:
                return f"aesthetic_score is off: {error}"
        return None

    def setup(self) -> None:
        """Load CLIP and the head, or say loudly that the score is off."""
        self.predictor: Predictor | None = None
        reason = self.available()
        if reason is None:
            self.predictor = Predictor(ARCHITECTURE, weights.path(CLIP_WEIGHTS), weights.path(HEAD_WEIGHTS))
        else:
            log.warning(reason)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample; None without frames or while the scorer is off."""
        return [{"aesthetic_score": self._score(sample.frames.images)} for sample in samples]

    def _score(self, images: npt.NDArray[np.uint8]) -> float | None:
        if self.predictor is None or not len(images):
            return None
        chosen = sorted(set(np.linspace(0, len(images) - 1, FRAMES).round().astype(int).tolist()))
        return float(self.predictor(images[chosen]).min())


class Predictor:
    """CLIP's image tower and the linear head.

    `architecture` is an open_clip model name, `checkpoint` its weights, `head` the state of a `torch.nn.Linear(N, 1)`.
    """

    def __init__(self, architecture: str, checkpoint: Path, head: Path) -> None:
        import torch

        self._clip = Clip(architecture, checkpoint)
        state: dict[str, torch.Tensor] = torch.load(head, map_location="cpu", weights_only=True)
        width = state["weight"].shape[1]
        if width != self._clip.width:
            raise WeightsError(f"{head} reads features of width {width}, {architecture} gives {self._clip.width}")
        self._head = torch.nn.Linear(width, 1)
        self._head.load_state_dict(state)
        self._head.to(self._clip.device).eval()

    def __call__(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Scores float32 [N] of RGB images [N, H, W, 3]: the head on the unit-length image features."""
        import torch

        with torch.inference_mode():
            scores: npt.NDArray[np.float32] = self._head(self._clip.images(images))[:, 0].cpu().numpy()
        return scores
