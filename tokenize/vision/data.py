"""Training batches for the vision tokenizer: crops of pictures, clips of video, and clips rendered from pictures.

Everything is held in memory as uint8, pictures and frames shrunk to a short side of at most `SHORT_SIDE` pixels.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError

SHORT_SIDE = 384
CUT = 40.0
"""Mean absolute difference of neighbouring frames (of 255) above which a clip is taken to cross a cut."""

PICTURES = {".jpg", ".jpeg", ".png", ".webp"}
VIDEOS = {".mp4", ".webm", ".mkv", ".avi", ".mov"}

Frames = npt.NDArray[np.uint8]
log = logging.getLogger(__name__)


def find_media(folders: list[Path]) -> list[Path]:
    """Every picture and video under the folders, sorted, links left out; DataError when a folder is missing."""
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"--data {folder} is not a folder")
        found += [p for p in folder.rglob("*") if _is_media(p)]
    return sorted(found)


def _is_media(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.suffix.lower() in PICTURES | VIDEOS


def read_picture(path: Path, short_side: int = SHORT_SIDE) -> Frames:
    """[H, W, 3] RGB of a picture, transparency over grey, shrunk to `short_side`."""
    from PIL import Image

    with Image.open(path) as opened:
        opened.draft("RGB", (short_side * 2, short_side * 2))
        picture = opened.convert("RGBA") if "A" in opened.getbands() else opened.convert("RGB")
    if picture.mode == "RGBA":
        backdrop = Image.new("RGBA", picture.size, (128, 128, 128, 255))
        picture = Image.alpha_composite(backdrop, picture).convert("RGB")
    scale = short_side / min(picture.size)
    if scale < 1:
        picture = picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.LANCZOS)
    return np.asarray(picture)


def read_video(path: Path, short_side: int = SHORT_SIDE, limit: int = 6000) -> Frames:
    """[T, H, W, 3] RGB of a video's first `limit` frames at their native rate, shrunk to `short_side`."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        scale = min(1.0, short_side / min(stream.width, stream.height))
        width, height = round(stream.width * scale), round(stream.height * scale)
        frames = []
        for frame in container.decode(stream):
            frames.append(frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray())
            if len(frames) == limit:
                break
    return np.stack(frames)


class Media:
    """Pictures and videos in memory, and random crops of them. `rng` decides everything."""

    def __init__(self, paths: list[Path]) -> None:
        self.pictures: list[Frames] = []
        self.videos: list[Frames] = []
        for path in paths:
            if path.suffix.lower() in VIDEOS:
                self.videos.append(read_video(path))
            else:
                self.pictures.append(read_picture(path))
        if not self.pictures or not self.videos:
            raise DataError(f"training needs pictures and videos; found {len(self.pictures)} and {len(self.videos)}")
        lengths = np.array([len(v) for v in self.videos], dtype=np.float64)
        # Square root: a long video is seen more often than a short one, but does not drown it.
        self._video_share = np.sqrt(lengths) / np.sqrt(lengths).sum()
        log.info("%d pictures, %d videos, %d frames", len(self.pictures), len(self.videos), int(lengths.sum()))

    def picture(self, rng: np.random.Generator, size: int) -> Frames:
        """[size, size, 3]: a crop of a picture or, one time in four, of a video frame."""
        cropped: Frames = self._crop(self._still(rng)[None], rng, size)[0]
        return cropped

    def clip(self, rng: np.random.Generator, size: int, length: int) -> Frames:
        """[length, size, size, 3]: half real video at 1/1 to 1/4 of its frame rate, half rendered motion."""
        if rng.random() < 0.5:
            return self._rendered(rng, size, length)
        while True:
            video = self.videos[rng.choice(len(self.videos), p=self._video_share)]
            stride = int(rng.integers(1, 5))
            if len(video) <= length * stride:
                continue
            start = int(rng.integers(len(video) - length * stride))
            frames: Frames = video[start : start + length * stride : stride]
            steps = np.abs(np.diff(frames[:, ::4, ::4].astype(np.int16), axis=0)).mean((1, 2, 3))
            if steps.max() < CUT:
                return self._crop(frames, rng, size)

    def _still(self, rng: np.random.Generator) -> Frames:
        if rng.random() < 0.25:
            video = self.videos[rng.choice(len(self.videos), p=self._video_share)]
            frame: Frames = video[rng.integers(len(video))]
            return frame
        return self.pictures[rng.integers(len(self.pictures))]

    def _crop(self, frames: Frames, rng: np.random.Generator, size: int) -> Frames:
        import cv2

        height, width = frames.shape[1:3]
        largest = min(height, width)
        smallest = min(largest, size)
        # Log-uniform: whole frames, heavily shrunk and so full of detail, are as common as close-ups.
        side = round(float(np.exp(rng.uniform(np.log(smallest), np.log(largest)))))
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        window = frames[:, top : top + side, left : left + side]
        if rng.random() < 0.5:
            window = window[:, :, ::-1]
        how = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
        return np.stack([cv2.resize(np.ascontiguousarray(f), (size, size), interpolation=how) for f in window])

    def _rendered(self, rng: np.random.Generator, size: int, length: int) -> Frames:
        """A camera that pans, zooms and turns over a picture, with up to two cut-outs of other pictures moving."""
        canvas = size * 2
        ground = self._crop(self._still(rng)[None], rng, canvas)[0]
        frames = _travel(ground, rng, size, length, speed=size / 24)
        for _ in range(int(rng.integers(3))):
            texture = _travel(self._crop(self._still(rng)[None], rng, canvas)[0], rng, size, length, speed=size / 48)
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
