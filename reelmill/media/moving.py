"""What moves: frames with times, and how each becomes an upright sRGB picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from reelmill.media.colour import Conversion, to_srgb
from reelmill.media.geometry import UPRIGHT, Orientation

Picture = npt.NDArray[np.uint8]

FILTERS = {
    "fast_bilinear": Interpolation.FAST_BILINEAR,
    "bicubic": Interpolation.BICUBIC,
    "area": Interpolation.AREA,
}


@dataclass(frozen=True)
class Look:
    """How frames of one kind lie in the file: their stored size, their size as displayed, and what is undone."""

    stored: tuple[int, int]
    width: int
    height: int
    orientation: Orientation = UPRIGHT
    conversion: Conversion | None = None


@dataclass(frozen=True)
class Decoded:
    """One frame: `index` counts from 0, `time_s` from the first frame; `frame` is as stored (not yet upright).

    `is_key`: it is predicted from no other. `is_damaged`: an error was found in it, or in what it is predicted from.
    `missing`: frames that a steady clock would have before it and that are not there; -1 where it has one too many.
    `follows_loss`: frames right before it are too damaged to be shown.
    """

    index: int
    time_s: float
    frame: VideoFrame
    look: Look
    is_key: bool = True
    is_damaged: bool = False
    missing: int = 0
    follows_loss: bool = False


@dataclass
class Facts:
    """What the `items` table says of a file. `stream` is the index of the video stream that is read, of
    `video_streams`; `frames` counts what was decoded, or what an animation or a file of pages holds; `errors` counts
    what was found damaged, `damage` says what; `steadiness` is the share of frames that follow at the usual step."""

    width: int = 0
    height: int = 0
    fps: float = 0.0
    duration_s: float = 0.0
    codec: str = ""
    frames: int = 0
    stream: int | None = None
    video_streams: int | None = None
    transfer: str | None = None
    primaries: str | None = None
    colour_range: str | None = None
    bit_depth: int | None = None
    interlaced: bool | None = None
    clock_steps: int | None = None
    steadiness: float | None = None
    errors: int | None = None
    damage: str | None = None


class Moving(ABC):
    """A video or an animation. `facts` is complete when all frames were read."""

    facts: Facts
    declared_s: float | None
    """Seconds that the file says it lasts."""
    metadata: Mapping[str, str] = {}
    """What the container says of itself, such as `copyright`."""
    errors_at_end: int = 0
    """Errors behind the last frame that could be decoded."""

    @abstractmethod
    def frames(self) -> Iterator[Decoded]:
        """All frames in the order in which they are shown."""

    @abstractmethod
    def skip_to(self, time_s: float) -> None:
        """Leave frames out from here on as far as that is sure to change no later one: at most up to `time_s`."""

    @abstractmethod
    def check_length(self) -> None:
        """Once all frames were read: Refused when some of them are missing or damaged."""

    @abstractmethod
    def close(self) -> None:
        """Release the decoder."""

    @property
    def end_s(self) -> float:
        """The end of the last frame so far, seconds from the first frame."""
        return self.facts.duration_s


@dataclass
class Renderer:
    """Scales frames and turns them upright. It keeps a scaler for each purpose: one that is asked for something else
    than the last time sets itself up anew, which costs more than the scaling."""

    _scalers: defaultdict[str, VideoReformatter] = field(default_factory=lambda: defaultdict(VideoReformatter))

    def upright(self, decoded: Decoded, width: int, height: int, scaling: str) -> Picture:
        """RGB [height, width, 3] of the frame, upright; `scaling` is one of FILTERS."""
        look = decoded.look
        stored = look.orientation.swap(width, height)
        if look.conversion is None:
            picture = _array(self._scaled(decoded.frame, *stored, "rgb24", scaling))
        else:
            picture = to_srgb(_array(self._scaled(decoded.frame, *stored, "rgb48le", scaling)), look.conversion)
        return look.orientation.upright(picture)

    def small(self, decoded: Decoded, width: int, height: int) -> Picture:
        """BGR [height, width, 3] for the cut detectors, as stored, not turned.

        Scaled as YUV 4:2:0 and made BGR only then: swscale takes a third less time so than in one step.
        """
        if decoded.look.conversion is not None:
            values = _array(self._scaled(decoded.frame, width, height, "rgb48le", "fast_bilinear", "small "))
            return np.ascontiguousarray(to_srgb(values, decoded.look.conversion)[..., ::-1])
        planes = self._scaled(decoded.frame, width, height, "yuv420p", "fast_bilinear")
        return _array(self._scaled(planes, width, height, "bgr24", None))

    def _scaled(
        self, frame: VideoFrame, width: int, height: int, pixels: str, scaling: str | None, use: str = ""
    ) -> VideoFrame:
        kind = FILTERS[scaling] if scaling else None
        return self._scalers[use + pixels].reformat(frame, width, height, pixels, interpolation=kind)


def _array(frame: VideoFrame) -> npt.NDArray[Any]:
    return frame.to_ndarray()
