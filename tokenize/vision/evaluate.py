"""How well a tokenizer reconstructs: PSNR a file, flicker, codes used, and side-by-side pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelmill.tokenize.vision.data import VIDEOS, Frames, read_picture, read_video
from reelmill.tokenize.vision.tokenizer import VisionTokenizer

AREA = 128**2
"""Pixels a frame at which everything is judged, sides rounded to multiples of 8."""
FPS = 8.0


def psnr(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 arrays of one shape, over all their values."""
    error = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
    return math.inf if error == 0 else float(10 * np.log10(255**2 / error))


def flicker(original: Frames, decoded: Frames) -> float:
    """Mean absolute error of the change from frame to frame, in levels of 255; 0 when all change is as it was."""
    change = np.diff(original.astype(np.float64), axis=0) - np.diff(decoded.astype(np.float64), axis=0)
    return float(np.abs(change).mean())


def fit(frames: Frames, area: int, multiple: int) -> Frames:
    """[T, H, W, 3] frames resized to about `area` pixels, each side to a multiple: the aspect changes a little."""
    import cv2

    height, width = frames.shape[1:3]
    scale = math.sqrt(area / (height * width))
    sides = [max(multiple, round(side * scale / multiple) * multiple) for side in (width, height)]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, sides, interpolation=how) for frame in frames])


def clip_at(path: Path, fps: float, multiple: int) -> Frames:
    """A video's frames at `fps` (nearest earlier frame), cut to a multiple of `multiple` frames; its whole length."""
    import av

    frames = read_video(path, short_side=720)
    with av.open(str(path)) as container:
        native = float(container.streams.video[0].average_rate or fps)
    picked = np.arange(0, len(frames), native / fps).astype(int)
    kept: Frames = frames[picked[: len(picked) // multiple * multiple]]
    return kept


def evaluate(tokenizer: VisionTokenizer, files: list[Path], pictures: Path | None = None) -> dict[str, float]:
    """PSNR of every file (`psnr/NAME`), flicker of the videos, share of the codebook used by all files together.

    Videos run at 8 frames/s over their whole length, everything at area 128². With `pictures`, originals above
    reconstructions are saved there as PNG.
    """
    scores: dict[str, float] = {}
    used: set[int] = set()
    for path in files:
        if path.suffix.lower() in VIDEOS:
            frames = fit(clip_at(path, FPS, tokenizer.temporal), AREA, tokenizer.spatial)
            codes = tokenizer.encode(frames)
            decoded = tokenizer.decode(codes)
            scores[f"flicker/{path.name}"] = flicker(frames, decoded)
        else:
            frames = fit(read_picture(path)[None], AREA, tokenizer.spatial)
            codes = tokenizer.encode_image(frames[0])
            decoded = tokenizer.decode_image(codes)[None]
        used.update(np.unique(codes).tolist())
        scores[f"psnr/{path.name}"] = psnr(frames, decoded)
        if pictures is not None:
            _save(frames, decoded, pictures / f"{path.stem}.png")
    scores["codes_used"] = len(used) / tokenizer.codes
    return scores


def _save(frames: Frames, decoded: Frames, path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    shown = slice(None, None, max(1, len(frames) // 8))
    rows = [np.concatenate(list(row[shown]), axis=1) for row in (frames, decoded)]
    Image.fromarray(np.concatenate(rows)).save(path)
