"""Metrics of a reconstruction, and of a tokenizer's use of its codes.

Frames are uint8 [T, H, W, 3]. Metrics of frames are returned as [T]; average over frames, then over files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from reelmill.tokenize.vision import evaluate

Frames = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float64]

MAX_PSNR = 60.0
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
MS_SSIM_MIN_SIDE = WINDOW * 2 ** (len(MS_SSIM_WEIGHTS) - 1)
"""The shortest side in pixels that leaves room for a window at the coarsest scale: 176."""

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(original: Frames, decoded: Frames) -> Scores:
    """Peak signal-to-noise ratio of each frame in dB, at most 60, the bound of libvmaf.

    Without a bound, one black frame that is reproduced exactly would make the mean over frames infinite.
    """
    return np.array([min(evaluate.psnr(*pair), MAX_PSNR) for pair in zip(original, decoded, strict=True)])


def ssim(original: Frames, decoded: Frames) -> Scores:
    """Structural similarity of each frame, at most 1 (Wang et al. 2004), the mean over positions and RGB channels.

    Gaussian windows of 11 x 11 pixels, sigma 1.5, that lie within the picture, as in scikit-image's
    `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)`.
    """
    return np.array([_similarity(*pair)[0].mean() for pair in _pairs(original, decoded)])


def ms_ssim(original: Frames, decoded: Frames) -> Scores:
    """Multi-scale structural similarity of each frame, 0 to 1 (Wang et al. 2003), the mean over RGB channels.

    Five scales, each half the size of the one before (2 x 2 means), with the published weights. Negative terms count as
    0. Raises ValueError for sides under 176 pixels, where the coarsest scale has no room for a window.
    """
    if min(original.shape[1:3]) < MS_SSIM_MIN_SIDE:
        raise ValueError(f"MS-SSIM needs sides of at least {MS_SSIM_MIN_SIDE} pixels, not {list(original.shape[1:3])}")
    return np.array([_ms_ssim(*pair) for pair in _pairs(original, decoded)])


def change_errors(original: Frames, decoded: Frames, chunk: int) -> tuple[float, float]:
    """Flicker: mean absolute error of the change from frame to frame, in levels of 255; 0 if all changes are
    reproduced.

    The first number is over steps within chunks of `chunk` frames, the second over steps between chunks; NaN if there
    are none.
    """
    error = np.abs(np.diff(original.astype(np.int16), axis=0) - np.diff(decoded.astype(np.int16), axis=0))
    steps = error.mean(axis=(1, 2, 3), dtype=np.float64)
    across = np.arange(1, len(original)) % chunk == 0
    within_mean, across_mean = (
        float(steps[chosen].mean()) if chosen.any() else math.nan for chosen in (~across, across)
    )
    return within_mean, across_mean


def code_use(counts: npt.NDArray[np.int64]) -> tuple[float, float]:
    """The share of codes that occur, and the perplexity, from the counts of all codes of a codebook, [codes].

    Perplexity is 2 to the power of the entropy in bits: the number of equally frequent codes with the same information.
    Both are bounded by the number of tokens, so they mean little for few files.
    """
    used = counts[counts > 0] / counts.sum()
    return len(used) / len(counts), float(np.exp(-(used * np.log(used)).sum()))


def _pairs(original: Frames, decoded: Frames) -> Iterator[tuple[Scores, Scores]]:
    for one, other in zip(original, decoded, strict=True):
        yield one.astype(np.float64), other.astype(np.float64)


def _ms_ssim(one: Scores, other: Scores) -> float:
    product = np.ones(3)
    for weight in MS_SSIM_WEIGHTS[:-1]:
        _, contrast = _similarity(one, other)
        product *= np.maximum(contrast, 0) ** weight
        one, other = _halve(one), _halve(other)
    coarsest, _ = _similarity(one, other)
    return float((product * np.maximum(coarsest, 0) ** MS_SSIM_WEIGHTS[-1]).mean())


def _similarity(one: Scores, other: Scores) -> tuple[Scores, Scores]:
    """SSIM and its factor of contrast and structure, the means over positions, of each channel of [H, W, 3]
    pictures."""
    mean_one, mean_other = _blur(one), _blur(other)
    variances = _blur(one * one) - mean_one**2 + _blur(other * other) - mean_other**2
    covariance = _blur(one * other) - mean_one * mean_other
    contrast = (2 * covariance + _C2) / (variances + _C2)
    luminance = (2 * mean_one * mean_other + _C1) / (mean_one**2 + mean_other**2 + _C1)
    return (luminance * contrast).mean(axis=(0, 1)), contrast.mean(axis=(0, 1))


def _blur(picture: Scores) -> Scores:
    """The Gaussian mean around every position with a complete window: [H, W, 3] to [H - 10, W - 10, 3]."""
    import cv2

    border = slice(WINDOW // 2, -(WINDOW // 2))
    blurred: Scores = cv2.GaussianBlur(picture, (WINDOW, WINDOW), SIGMA)[border, border]
    return blurred


def _halve(picture: Scores) -> Scores:
    """2 x 2 means; an odd last row or column is dropped."""
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    halved: Scores = picture[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
    return halved
