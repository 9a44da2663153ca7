"""Training batches for a vision tokenizer: crops of pictures, clips of video, and clips rendered from pictures.

A batch is a pure function of (seed, step, rank), however many processes decode and whatever they keep in memory.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reelmill.config import free
from reelmill.errors import ConfigError, DataError
from reelmill.train.signals import SIGNALS
from reelmill.train.vision.media import SEGMENT, Frames, MediaCache, MediaFile, duration_s
from reelmill.train.vision.render import rendered

CUT = 40.0
"""Mean absolute difference of neighboring frames (of 255) above which a clip is taken to cross a cut."""
_ATTEMPTS = 20


@dataclass(frozen=True)
class DataConfig:
    """What a step sees on each rank: crops of pictures and clips, all of one size, which is drawn a step."""

    pictures: int = 8
    """Crops of pictures in a step, on each rank."""
    clips: int = 1
    """Clips in a step, on each rank; 0: none."""
    latents: tuple[int, ...] = (2,)
    """Latent frames of a clip, 4 frames each (frames, of a tokenizer without a time axis): one length, or one for each
    of `sizes`."""
    sizes: tuple[int, ...] = (96,)
    """Sides of crops and clips, pixels; a step draws one."""
    real_clips: float = 0.5
    """Share of the clips that is video, at 1/1 to 1/4 of its frame rate; the others are rendered from pictures."""
    video_stills: float = 0.2
    """Share of the pictures that are frames of video."""
    short_side: int = 384
    """Media are shrunk to this shorter side."""
    cache_gb: float = free(4.0)
    """GB of memory in which a process keeps media."""
    workers: int = free(0)
    """Processes that decode; 0: none."""

    def __post_init__(self) -> None:
        if len(self.latents) not in (1, len(self.sizes)):
            raise ConfigError(
                f"latents {list(self.latents)} go with sizes {list(self.sizes)}: give one length, or one for each size"
            )


class Crops:
    """Random crops of media. The generator that is handed in decides everything."""

    def __init__(self, sources: Sequence[MediaFile], config: DataConfig) -> None:
        self.config = config
        self.cache = MediaCache(config.short_side, int(config.cache_gb * 1e9))
        self.pictures = [source for source in sources if not source.is_video]
        self.videos = [source for source in sources if source.is_video]
        needs_videos = config.video_stills > 0 or (config.clips > 0 and config.real_clips > 0)
        if not self.pictures or (needs_videos and not self.videos):
            raise DataError(
                f"training needs pictures and videos; found {len(self.pictures)} and {len(self.videos)}: add --data, "
                "or do without videos by data.video_stills 0 and data.real_clips 0"
            )
        self._lengths = [duration_s(video) for video in self.videos]
        share = np.sqrt([seconds for seconds, _ in self._lengths])
        # Square root: a long video is seen more often than a short one, but does not drown it.
        self._share = share / max(float(share.sum()), 1e-9)

    def picture(self, rng: np.random.Generator, size: int) -> Frames:
        """[size, size, 3]: a crop of a picture or of a video frame."""
        cropped: Frames = crop(self._still(rng), rng, size)[0]
        return cropped

    def clip(self, rng: np.random.Generator, size: int, length: int) -> Frames:
        """[length, size, size, 3]: real video, or motion rendered from pictures."""
        for _ in range(_ATTEMPTS if rng.random() < self.config.real_clips else 0):
            frames = self._segment(rng)
            stride = int(rng.integers(1, 5))
            if len(frames) < (length - 1) * stride + 1:
                continue
            start = int(rng.integers(len(frames) - (length - 1) * stride))
            window = frames[start : start + length * stride : stride]
            steps = np.abs(np.diff(window[:, ::4, ::4].astype(np.int16), axis=0)).mean((1, 2, 3))
            if steps.max() < CUT:
                return crop(window, rng, size)
        return rendered(lambda side: crop(self._still(rng), rng, side)[0], rng, size, length)

    def _still(self, rng: np.random.Generator) -> Frames:
        for _ in range(_ATTEMPTS):
            if rng.random() < self.config.video_stills:
                frames = self._segment(rng)
            else:
                frames = self.cache.frames(self.pictures[rng.integers(len(self.pictures))])
            if len(frames):
                at = int(rng.integers(len(frames)))
                return frames[at : at + 1]
        raise DataError(f"{_ATTEMPTS} pictures in a row cannot be read; see the warnings above for their names")

    def _segment(self, rng: np.random.Generator) -> Frames:
        number = int(rng.choice(len(self.videos), p=self._share))
        seconds, rate = self._lengths[number]
        segment = int(rng.integers(max(1, int(seconds * rate / SEGMENT))))
        return self.cache.frames(self.videos[number], self.videos[number].start_s + segment * SEGMENT / rate)


def crop(frames: Frames, rng: np.random.Generator, size: int) -> Frames:
    """[T, H, W, 3] to [T, size, size, 3]: one random square of all frames, mirrored half of the time."""
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


class _Steps(Dataset[tuple[Tensor, Tensor]]):
    """Batches by step number. A worker process opens its own media."""

    def __init__(self, crops: Crops, seed: int, rank: int, temporal: int) -> None:
        self.crops, self.seed, self.rank, self.temporal = crops, seed, rank, temporal

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        config = self.crops.config
        rng = np.random.default_rng([self.seed, step])
        drawn = int(rng.integers(len(config.sizes)))  # one size for all ranks
        size, latents = config.sizes[drawn], config.latents[drawn % len(config.latents)]
        rng = np.random.default_rng([self.seed, step, self.rank])
        pictures = [self.crops.picture(rng, size) for _ in range(config.pictures)]
        length = latents * self.temporal
        clips = np.empty((config.clips, length, size, size, 3), dtype=np.uint8)
        for clip in clips:
            clip[:] = self.crops.clip(rng, size, length)
        return torch.from_numpy(np.stack(pictures)), torch.from_numpy(clips)


def _ignore_signals(_worker: int) -> None:
    """Leave signals to the trainer, which saves before it ends; workers end with it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def batches(crops: Crops, steps: range, seed: int, rank: int = 0, temporal: int = 4) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each step uint8 pictures [P, size, size, 3] and clips [B, T, size, size, 3]."""
    yield from DataLoader(
        _Steps(crops, seed, rank, temporal),
        batch_size=None,
        sampler=steps,
        num_workers=crops.config.workers,
        persistent_workers=crops.config.workers > 0,
        worker_init_fn=_ignore_signals,
    )


def as_signal(frames: Tensor | npt.NDArray[np.uint8]) -> Tensor:
    """[..., H, W, 3] uint8 to [..., 3, H, W] float in [-1, 1]."""
    return torch.as_tensor(frames).movedim(-1, -3).float() / 127.5 - 1
