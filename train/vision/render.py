"""Clips rendered from pictures: motion of known kinds for where video is scarce."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from reelmill.train.vision.media import Frames


def rendered(take: Callable[[int], Frames], rng: np.random.Generator, size: int, length: int) -> Frames:
    """[length, size, size, 3]: a camera that pans, zooms and turns over a picture, up to two cut-outs moving in front.

    `take(side)` gives a new picture [side, side, 3].
    """
    canvas = size * 2
    frames = _travel(take(canvas), rng, size, length, speed=size / 24)
    for _ in range(int(rng.integers(3))):
        texture = _travel(take(canvas), rng, size, length, speed=size / 48)
        mask = _moving_ellipse(rng, size, length)
        frames = frames * (1 - mask) + texture * mask
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def _travel(picture: Frames, rng: np.random.Generator, size: int, length: int, speed: float) -> npt.NDArray[np.float32]:
    import cv2

    step = rng.normal(0, speed, 2) * rng.uniform(0, 1)
    turn = rng.normal(0, 0.02) * (rng.random() < 0.5)
    zoom = np.exp(rng.normal(0, 0.02) * (rng.random() < 0.5))
    middle = picture.shape[0] / 2 + rng.normal(0, size / 8, 2)
    frames = []
    for t in range(length):
        angle, scale = turn * (t - length / 2), zoom ** (t - length / 2)
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        rotation = np.array([[cosine, -sine], [sine, cosine]])
        corner = middle + step * (t - length / 2) - rotation @ np.array([size / 2, size / 2])
        matrix = np.hstack([rotation, corner[:, None]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        frames.append(cv2.warpAffine(picture, matrix, (size, size), flags=how, borderMode=cv2.BORDER_REFLECT_101))
    return np.stack(frames).astype(np.float32)


def _moving_ellipse(rng: np.random.Generator, size: int, length: int) -> npt.NDArray[np.float32]:
    """[length, size, size, 1] soft masks."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    place = rng.uniform(0.1, 0.9, 2) * size
    step = rng.normal(0, size / 24, 2)
    radii = rng.uniform(0.06, 0.3, 2) * size
    masks = []
    for t in range(length):
        row, column = place + step * (t - length / 2)
        distance = np.hypot((y - row) / radii[0], (x - column) / radii[1])
        masks.append(np.clip((1 - distance) * radii.min() + 0.5, 0, 1))
    return np.stack(masks)[..., None].astype(np.float32)
