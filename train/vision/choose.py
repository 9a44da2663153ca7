"""Which pictures are worth training on: large enough, not flat, and each only once.

Packages ship the same picture at several sizes, and the same photograph comes in several packages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelmill.media.kinds import VIDEO_SUFFIXES
from reelmill.media.limits import Limits
from reelmill.media.source import Source

SMALLEST = 256
"""Short side, in pixels, below which a picture is taken for an icon."""
ENOUGH = 512
FLAT = 0.6
"""Share of pixels equal to their right neighbor above which a picture is a drawing or text. Photographs: under 0.4."""
SAME = 0.95
"""Correlation of two pictures' thumbnails from which they count as one picture."""
_THUMBNAIL = 16

Signature = npt.NDArray[np.float32]


def choose(training: Sequence[Path], held_out: Sequence[Path]) -> list[Path]:
    """The training files without icons, flat drawings and repeats, in order; videos stay.

    Of pictures that look the same, or that lie in one folder and are named by their resolution (crops of one picture),
    one is kept: the smallest whose short side is at least `ENOUGH`, else the largest.
    A picture that looks like a held-out one is left out.
    """
    taken = [signature for path in held_out if not _is_video(path) for signature in [_look(path)[1]]]
    videos = [path for path in training if _is_video(path)]
    sized = [(path, _short_side(path)) for path in training if not _is_video(path)]
    kept: list[Path] = []
    folders: set[Path] = set()
    for path, _ in sorted((pair for pair in sized if pair[1] >= SMALLEST), key=_preference):
        by_resolution = re.fullmatch(r"\d+x\d+", path.stem) is not None
        if by_resolution and path.parent in folders:
            continue
        flat, signature = _look(path)
        if flat > FLAT or any(float(signature @ other) > SAME for other in taken):
            continue
        taken.append(signature)
        kept.append(path)
        if by_resolution:
            folders.add(path.parent)
    return sorted(videos + kept)


def _preference(pair: tuple[Path, int]) -> tuple[bool, int, Path]:
    path, side = pair
    return (side < ENOUGH, side if side >= ENOUGH else -side, path)


def _look(path: Path) -> tuple[float, Signature]:
    """How flat the visible part of a picture is; its gray thumbnail as a vector of mean 0 and length 1."""
    from PIL import Image

    from reelmill.media.pictures import open_layers

    picture, alpha = open_layers(_source(path), Limits(), draft=ENOUGH)
    if alpha is not None:
        picture.putalpha(alpha)
    picture.thumbnail((ENOUGH, ENOUGH), reducing_gap=2.0)
    pixels = np.asarray(picture)
    same = (pixels[:, 1:] == pixels[:, :-1]).all(axis=2)
    if picture.mode == "RGBA":
        # Cut-outs: what is around them says nothing.
        same = same[pixels[:, 1:, 3] > 0]
        backdrop = Image.new("RGBA", picture.size, (128, 128, 128, 255))
        picture = Image.alpha_composite(backdrop, picture).convert("RGB")
    flat = float(same.mean()) if same.size else 1.0
    grey = picture.convert("L").resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    vector = np.asarray(grey, np.float32).ravel()
    vector = vector - vector.mean()
    return flat, vector / max(float(np.linalg.norm(vector)), 1e-6)


def _short_side(path: Path) -> int:
    from reelmill.media.pictures import opened

    with opened(_source(path), Limits()) as picture:
        return min(picture.file.size)


def _source(path: Path) -> Source:
    return Source(str(path), 0, path.stat().st_size)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES
