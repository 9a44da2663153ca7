"""A quick evaluation of a tokenizer: PSNR, flicker, codes used, and side-by-side pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelmill.tokenize.vision.tokenizer import Frames, VisionTokenizer


def psnr(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 arrays of one shape, over all values; infinite if they are
    equal."""
    error = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
    return math.inf if error == 0 else float(10 * np.log10(255**2 / error))


def flicker(original: Frames, decoded: Frames) -> float:
    """Mean absolute error of the change from frame to frame, in levels of 255; 0 if all changes are reproduced."""
    change = np.diff(original.astype(np.float64), axis=0) - np.diff(decoded.astype(np.float64), axis=0)
    return float(np.abs(change).mean())


def fit(frames: Frames, area: int, multiple: int) -> Frames:
    """Frames [T, H, W, 3] resized to about `area` pixels, sides multiples of `multiple`: the aspect changes a
    little."""
    import cv2

    height, width = frames.shape[1:3]
    scale = math.sqrt(area / (height * width))
    sides = [max(multiple, round(side * scale / multiple) * multiple) for side in (width, height)]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, sides, interpolation=how) for frame in frames])


def evaluate(tokenizer: VisionTokenizer, media: Mapping[str, Frames], pictures: Path | None = None) -> dict[str, float]:
    """PSNR of each file (`psnr/NAME`), flicker of each video, and the share of the codebook that all of them use.

    `media`: uint8 [T, H, W, 3] by name; T is 1 for a picture. With `pictures`, originals above reconstructions are
    saved there as PNG.
    """
    scores: dict[str, float] = {}
    used: set[int] = set()
    for name, frames in media.items():
        if len(frames) == 1:
            codes = tokenizer.encode_image(frames[0])
            decoded = tokenizer.decode_image(codes, frames.shape[1:3])[None]
        else:
            codes = tokenizer.encode(frames)
            decoded = tokenizer.decode(codes, frames.shape[:3])
            scores[f"flicker/{name}"] = flicker(frames, decoded)
        used.update(np.unique(codes).tolist())
        scores[f"psnr/{name}"] = psnr(frames, decoded)
        if pictures is not None:
            _save(frames, decoded, pictures / f"{name}.png")
    scores["codes_used"] = len(used) / tokenizer.codes
    return scores


def _save(frames: Frames, decoded: Frames, path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    shown = slice(None, None, max(1, len(frames) // 8))
    rows = [np.concatenate(list(row[shown]), axis=1) for row in (frames, decoded)]
    Image.fromarray(np.concatenate(rows)).save(path)
