"""Embeddings: what a picture or a clip shows, as a vector of unit length, for `similar` and for semantic duplicates.

Two models: Inception v3, whose weights lie in a Python package, and CLIP ViT-L/14, whose weights come from a model hub
and which understands words too. Inception was trained to tell 1,000 classes of ImageNet apart: its features say what is
in a picture, and less of how it was made.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from reelmill import weights
from reelmill.curation.interfaces import VECTOR, Sample, Scorer
from reelmill.curation.scorers import aesthetic
from reelmill.curation.scorers.clip import Clip
from reelmill.errors import WeightsError

Vectors = npt.NDArray[np.float32]
Model = Literal["inception", "clip"]

log = logging.getLogger(__name__)


class Embedding(Scorer):
    """`embedding_model`: the model whose vector lies in the table `embeddings`; None where there is none.

    A clip's vector is the mean of those of some frames. Off, with a warning, where the weights are not on this machine.
    """

    columns: ClassVar = {"embedding_model": "VARCHAR"}
    embeds: ClassVar = True

    @dataclass
    class Config:
        """Which model, and how much of a clip it sees."""

        model: Model = "inception"
        """`inception` (2,048 numbers) or `clip` (768)."""
        frames: int = 1
        """Frames of a clip, evenly spaced; one is that in the middle."""

    def setup(self) -> None:
        """Load the model, or say loudly that there are no embeddings."""
        self._embed: Callable[[npt.NDArray[np.uint8]], Vectors] | None = None
        try:
            self._embed = embedder(self.config.model)
        except WeightsError as error:
            log.warning("embeddings are off: %s", error)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample; None without frames or while the scorer is off."""
        return [self._score(sample.frames.images) for sample in samples]

    def _score(self, images: npt.NDArray[np.uint8]) -> dict[str, Any]:
        if self._embed is None or not len(images):
            return {"embedding_model": None}
        step = len(images) / self.config.frames
        chosen = sorted({int((number + 0.5) * step) for number in range(self.config.frames)})
        mean = self._embed(images[chosen]).mean(axis=0)
        return {"embedding_model": self.config.model, VECTOR: unit(mean).astype(np.float16)}


def embedder(model: Model) -> Callable[[npt.NDArray[np.uint8]], Vectors]:
    """What makes unit vectors float32 [N, D] of pictures uint8 [N, H, W, 3]. Raises WeightsError."""
    if model == "clip":
        clip = load_clip()
        return lambda images: clip.images(images).cpu().numpy()
    from reelmill.inception import inception_features, load_inception

    network = load_inception()
    return lambda images: unit(inception_features(network, images).astype(np.float32))


def load_clip() -> Clip:
    """CLIP ViT-L/14, which the aesthetic score uses too. Raises WeightsError where it is not on this machine."""
    if importlib.util.find_spec("open_clip") is None:
        raise WeightsError("open_clip is not installed. Run: pip install 'reelmill[aesthetic]'")
    return Clip(aesthetic.ARCHITECTURE, weights.path(aesthetic.CLIP_WEIGHTS))


def unit(vectors: Vectors) -> Vectors:
    """Vectors [..., D] at length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)
