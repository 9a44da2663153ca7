"""Pornography and nudity, by Yahoo's open_nsfw (Mahadeokar and Pesavento 2016)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from reelmill import weights
from reelmill.curation.interfaces import Sample, Scorer

WEIGHTS = "open-nsfw"
SIDE, CROP = 256, 224
MEAN_BGR = (104, 117, 123)
"""What the network was trained less: the mean color of ImageNet."""


class Nsfw(Scorer):
    """`nsfw`: the highest probability over the examined frames that a frame is not safe for work, 0 to 1.

    Its authors call pictures below 0.2 safe and above 0.8 not, with high probability; between them the user has to
    choose. It does not know violence, drawings or texts.
    """

    columns: ClassVar = {"nsfw": "DOUBLE"}
    weights: ClassVar = (WEIGHTS,)

    @dataclass
    class Config:
        """How much is looked at."""

        frames: int = 4
        """Evenly spaced frames of a clip that are examined, at most."""

    def setup(self) -> None:
        """Load the network, on one thread of a CPU."""
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self._session = InferenceSession(str(weights.path(WEIGHTS)), sess_options=options, providers=providers)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample; None without frames."""
        return [{"nsfw": self._score(sample.frames.images)} for sample in samples]

    def _score(self, images: npt.NDArray[np.uint8]) -> float | None:
        if not len(images):
            return None
        chosen = np.linspace(0, len(images) - 1, min(len(images), self.config.frames)).round().astype(int)
        inputs = np.stack([network_input(image) for image in images[chosen]])
        [probabilities] = self._session.run(None, {self._session.get_inputs()[0].name: inputs})
        return float(probabilities[:, 1].max())


def network_input(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """RGB [H, W, 3] as the network saw pictures in training, BGR float32 [224, 224, 3].

    The whole picture is squeezed into a square, and its middle is taken and compressed as JPEG, as open_nsfw's
    `classify_nsfw.py` does it.
    """
    margin = (SIDE - CROP) // 2
    square = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    middle = square.crop((margin, margin, margin + CROP, margin + CROP))
    with io.BytesIO() as file:
        middle.save(file, "JPEG")
        pixels = np.asarray(Image.open(file), np.float32)
    return pixels[:, :, ::-1] - np.array(MEAN_BGR, np.float32)
