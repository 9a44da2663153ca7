"""`reelmill.score`: scorers on frames that one has already."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation

from reelmill.curation import scorers as registry
from reelmill.curation.interfaces import Frames, Kind, Sample, Scorer
from reelmill.curation.scenes import detect_size
from reelmill.curation.scoring import DecodeConfig
from reelmill.errors import ConfigError, DataError
from reelmill.media.details import details
from reelmill.media.geometry import fit

RUN = 3
"""Neighboring native frames that show shake."""

Pictures = npt.NDArray[np.uint8]
Wanted = Iterable[str | Scorer] | Mapping[str, Mapping[str, Any]]


def score(frames: Pictures, scorers: Wanted, *, fps: float | None = None, alt: str | None = None) -> dict[str, Any]:
    """Columns that `scorers` give to one clip or image, as a curation would: `{"quality_score": 0.81, ...}`.

    `frames`: uint8 [N, H, W, 3], RGB; an image has N = 1. With `fps` they are all the frames of a clip: as in curation
    two a second are looked at, and three neighbors at each for shake. Without it every frame is looked at, and
    neighbors count as half a second apart. `scorers`: names (`package.module:Class` too), or names with options as in
    a recipe (`{"motion_raft": {"pairs": "all"}}`), or instances of a scorer of one's own. `alt`: the text that came
    with the pictures, for the scorers of preference. What cannot be measured is None; so are the columns of a scorer of
    other kinds (motion, of an image). Named scorers are set up once in a process.

    Raises DataError for other arrays, ConfigError for an unknown scorer or option, WeightsError for missing weights.
    """
    _check(frames, fps)
    sample = _sample(frames, fps, alt)
    found: dict[str, Any] = {}
    for scorer in _made(scorers):
        if sample.kind in scorer.kinds:
            (columns,) = scorer.refine([sample])  # no rules here that an approximate value could satisfy
        else:
            columns = dict.fromkeys(scorer.columns)
        found.update(columns)
        sample.columns.update(columns)
    return found


def _check(frames: Pictures, fps: float | None) -> None:
    """Raise DataError for anything but frames, ConfigError for no rate."""
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        given = f"{frames.dtype} {list(frames.shape)}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise DataError(f"frames are {given}; give a NumPy array of uint8 [N, H, W, 3], RGB")
    if not len(frames):
        raise DataError("there are no frames to score")
    if fps is not None and not 0 < fps < math.inf:
        raise ConfigError(f"fps is {fps}; it must be the clip's frames a second, or None for frames that are sampled")


def _made(scorers: Wanted) -> list[Scorer]:
    if isinstance(scorers, Mapping):
        return [_named(name, json.dumps(dict(options))) for name, options in scorers.items()]
    made = []
    for scorer in [scorers] if isinstance(scorers, str) else scorers:
        if isinstance(scorer, Scorer):
            scorer.setup()
        made.append(scorer if isinstance(scorer, Scorer) else _named(scorer, "{}"))
    return made


@cache
def _named(name: str, options: str) -> Scorer:
    """A scorer by name, set up; `options` as JSON."""
    given = json.loads(options)
    scorer = registry.create(given.pop("use", name), given)
    scorer.setup()
    return scorer


def _sample(frames: Pictures, fps: float | None, alt: str | None) -> Sample:
    """The frames as scorers get them: two a second, shorter side 256, runs of native neighbors."""
    count, height, width, _ = frames.shape
    config = DecodeConfig()
    if fps is None:
        chosen, end_s = list(range(count)), count / config.sample_fps
        times = [index / config.sample_fps for index in chosen]
        runs: list[Pictures] = []
    else:
        wanted = np.arange(int(np.ceil(count / fps * config.sample_fps - 1e-6))) / config.sample_fps
        chosen = np.unique(np.ceil(wanted * fps - 1e-6).astype(int).clip(max=count - 1)).tolist()
        times, end_s = [index / fps for index in chosen], count / fps
        small = detect_size(width, height)
        runs = [
            np.stack([_grey(frame, small) for frame in frames[index : index + RUN]])
            for index in chosen
            if index + RUN <= count
        ]
    size = fit(width, height, config.short_side, config.long_side)
    seen = Frames(
        images=np.stack([_scaled(frames[index], size) for index in chosen]),
        times=np.array(times, np.float64),
        runs=np.stack(runs) if runs else np.zeros((0, RUN, 1, 1), np.uint8),
        details=np.stack([details(cv2.cvtColor(frames[index], cv2.COLOR_RGB2GRAY)) for index in chosen]),
    )
    kind: Kind = "video" if count > 1 else "image"
    return Sample("", "", kind, 0.0, end_s if kind == "video" else 0.0, width, height, fps or 0.0, seen, alt=alt)


def _scaled(frame: Pictures, size: tuple[int, int], pixels: str = "rgb24") -> Pictures:
    """A frame at width x height, scaled as the decoder scales for scorers."""
    if (frame.shape[1], frame.shape[0]) == size and pixels == "rgb24":
        return frame
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    scaled = picture.reformat(*size, pixels, interpolation=Interpolation.FAST_BILINEAR)
    return scaled.to_ndarray().astype(np.uint8, copy=False)


def _grey(frame: Pictures, size: tuple[int, int]) -> Pictures:
    grey: Pictures = cv2.cvtColor(_scaled(frame, size), cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    return grey
