"""Image quality by plain formulas: colors and light, and how sharp, well exposed and rich in contrast a picture is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from reelmill.curation.interfaces import Sample, Scorer

Rgb = npt.NDArray[np.uint8]
VIVID_CHROMA, VIVIDNESS = 45.0, 75.0
"""From where a color is vivid (CIELAB). Saddle brown has 49 and 61, a clear red of (220, 30, 30) 75 and 89."""


class Colourfulness(Scorer):
    """`colourfulness` of Hasler and Süsstrunk (2003), the mean over the frames: 0 is gray, about 110 is vivid."""

    columns: ClassVar = {"colourfulness": "DOUBLE"}

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample; None without frames."""
        return [{"colourfulness": _mean(colourfulness, sample)} for sample in samples]


class Tones(Scorer):
    """`luma`: mean brightness, 0 black to 255 white; `chroma`: mean distance from gray in CIELAB, 0 to about 130;
    `vivid_share`: share of the pixels that are far from gray and from black. Means over the frames.

    Vividness is a color's distance from black in CIELAB (Berns, "Extending CIELAB: vividness, depth, and clarity",
    2014): brown has the chroma of many a bright color, and is not vivid.
    """

    columns: ClassVar = {"luma": "DOUBLE", "chroma": "DOUBLE", "vivid_share": "DOUBLE"}

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample; None without frames."""
        return [self._score(sample.frames.images) for sample in samples]

    def _score(self, images: npt.NDArray[np.uint8]) -> dict[str, float | None]:
        if not len(images):
            return dict.fromkeys(self.columns)
        values = np.mean([tones(image) for image in images], axis=0)
        return dict(zip(self.columns, map(float, values), strict=True))


class Quality(Scorer):
    """`quality_score` in [0, 1]: a technical measure of sharpness, exposure and contrast, the mean over the frames.

    It says whether a picture is blurred, black, burnt out or flat. It says nothing about aesthetics.
    """

    columns: ClassVar = {"quality_score": "DOUBLE"}

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One dict per sample; None without frames."""
        return [{"quality_score": _mean(quality, sample)} for sample in samples]


def colourfulness(image: Rgb) -> float:
    """Metric M3 of Hasler and Süsstrunk, "Measuring colourfulness in natural images" (2003), of an RGB image."""
    red, green, blue = np.moveaxis(image.astype(np.float32), -1, 0)
    red_green = red - green
    yellow_blue = 0.5 * (red + green) - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    offset = np.hypot(red_green.mean(), yellow_blue.mean())
    return float(spread + 0.3 * offset)


def tones(image: Rgb) -> tuple[float, float, float]:
    """Luma, chroma and share of vivid pixels of an RGB image, see `Tones`."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)  # of 8 bits: L times 2.55, a and b plus 128
    chroma = np.hypot(lab[..., 1] - 128, lab[..., 2] - 128)
    vividness = np.hypot(lab[..., 0] / 2.55, chroma)
    is_vivid = (chroma >= VIVID_CHROMA) & (vividness >= VIVIDNESS)
    return float(luma.mean()), float(chroma.mean()), float(is_vivid.mean())


def quality(image: Rgb) -> float:
    """The least of `sharpness`, `exposure` and `contrast` of an RGB image, each in [0, 1]: what is worst about it."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return min(sharpness(luma), exposure(luma), contrast(luma))


def sharpness(luma: npt.NDArray[np.float32]) -> float:
    """The share of the local variation that an extra blur takes away (1 - `blur_effect`), over 0.6, at most 1."""
    return min(1.0, (1 - blur_effect(luma)) / 0.6)


def blur_effect(luma: npt.NDArray[np.float32]) -> float:
    """The share of the local variation that an extra blur leaves, 0 to 1: near 0.3 is sharp, 1 has no edges.

    Crete et al., "The blur effect" (2007): the differences between neighbors before and after a 9-tap mean filter are
    compared; a sharp picture loses most of them, a blurred one hardly any, whatever the contrast. The worse direction
    counts; where nothing varies, nothing is sharp. A light Gaussian beforehand keeps the steps of 8-bit luma and
    compression noise, which every blur removes, from passing for detail.
    """
    smooth = cv2.GaussianBlur(luma, (0, 0), 0.7)
    losses = []
    for axis, kernel in ((0, (1, 9)), (1, (9, 1))):
        before = np.abs(np.diff(smooth, axis=axis))
        after = np.abs(np.diff(cv2.blur(smooth, kernel), axis=axis))
        total = float(before.sum())
        losses.append(float(np.maximum(before - after, 0).sum()) / total if total > 0 else 0.0)
    return 1 - min(losses)


def exposure(luma: npt.NDArray[np.float32]) -> float:
    """1 for a mean luma of 60 to 200 out of 255, falling linearly to 0 at 10 and at 250."""
    return float(np.interp(luma.mean(), [10, 60, 200, 250], [0, 1, 1, 0]))


def contrast(luma: npt.NDArray[np.float32]) -> float:
    """Standard deviation of luma over 40, at most 1 (RMS contrast; a uniform picture has 0)."""
    return float(min(1.0, luma.std() / 40))


def _mean(measure: Callable[[Rgb], float], sample: Sample) -> float | None:
    images = sample.frames.images
    return float(np.mean([measure(image) for image in images])) if len(images) else None
