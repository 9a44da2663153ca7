"""Pictures of clips: frames decoded in the untrusted child, made into strips that the page animates by CSS."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from reelmill.config import to_dict
from reelmill.curation.clip_messages import Clip, Decoded, decode_clips
from reelmill.curation.scoring import ScoreConfig
from reelmill.curation.speech.clips import collect
from reelmill.isolation.messages import SOUND, Kinds
from reelmill.isolation.parent import Child, ItemFailed
from reelmill.media import audio
from reelmill.media.audio import Samples
from reelmill.media.source import Place
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.tokens import JOBS

T = TypeVar("T")
Frames = npt.NDArray[np.uint8]
THUMB_PIXELS = 160 * 120
THUMB_FRAMES = 6
THUMB_BYTES = 28_000
EXCERPT = 400
ITEM_S = 60.0
"""A page waits no longer than this for one item."""
QUALITIES = (72, 55, 40, 25, 10)


@dataclass(frozen=True)
class Strip:
    """Frames side by side in one WebP; `data` is its data URI."""

    data: str
    frames: int
    ratio: float
    seconds: float


class Pictures:
    """Decodes clips of a run folder's items through one untrusted child. Use as a context manager."""

    def __init__(self, folder: RunFolder, score: ScoreConfig) -> None:
        self._options = to_dict(score.decode)
        limits = replace(score.isolation, stall_s=min(score.isolation.stall_s, ITEM_S), item_s=ITEM_S)
        self._child = Child(limits)
        self._sources = folder.sources()

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()

    def decode(self, kind: str, item_id: str, clips: Sequence[Clip], take: Callable[[Iterator[Decoded]], T]) -> T:
        """What `take` makes of the clips of an item, each with its frames or words. Raises ItemFailed."""
        return decode_clips(self._child, JOBS[kind], self._source(item_id), self._options, clips, take)

    def run(self, job: str, item_id: str, kinds: Kinds) -> Iterator[dict[str, Any]]:
        """Messages of another job on an item, under the same limits. Raises ItemFailed."""
        yield from (body for body, _ in self._child.run(job, self._source(item_id), self._options, kinds))

    def sound(self, item_id: str) -> Samples:
        """All sound of an item, int16 [N], 16 kHz mono from its first picture on. Raises ItemFailed."""
        return self._child.run_all(audio.JOB, self._source(item_id), self._options, SOUND, collect)

    def _source(self, item_id: str) -> Place:
        source = self._sources.get(item_id)
        if source is None:
            raise ItemFailed("item", "not_in_plan: the item is no longer in plan.parquet")
        return source

    def thumbnails(self, samples: Iterable[Mapping[str, Any]], frames: int = THUMB_FRAMES) -> dict[str, Any]:
        """sample_id to a Strip, an excerpt of a text, or an ItemFailed that says why there is no picture."""
        found: dict[str, Any] = {}
        for sample_id, seen in self.frames_of(samples, frames).items():
            found[sample_id] = strip(seen, len(seen) / 2, THUMB_BYTES) if isinstance(seen, np.ndarray) else seen
        return found

    def frames_of(
        self, samples: Iterable[Mapping[str, Any]], frames: int, pixels: int = THUMB_PIXELS
    ) -> dict[str, Frames | str | ItemFailed]:
        """sample_id to `frames` evenly spaced small frames (an image has one), the excerpt of a text, or a failure."""
        found: dict[str, Frames | str | ItemFailed] = {}
        listed = list(samples)
        found.update({s["sample_id"]: f"A recording of {s['end_s']:.1f} s." for s in listed if s["kind"] == "audio"})
        seen = [sample for sample in listed if sample["kind"] != "audio"]
        ordered = sorted(seen, key=lambda sample: (sample["item_id"], sample["start_s"]))
        for item_id, group in groupby(ordered, key=lambda sample: sample["item_id"]):
            members = list(group)
            clips = [_spaced_clip(sample, frames, pixels) for sample in members]

            def keep(decoded: Iterator[Decoded]) -> None:
                for clip, shown in decoded:
                    found[clip["key"]] = shown[:EXCERPT] if isinstance(shown, str) else shown

            try:
                self.decode(members[0]["kind"], item_id, clips, keep)
            except ItemFailed as failure:
                found.update((sample["sample_id"], failure) for sample in members if sample["sample_id"] not in found)
        return found


def strip(frames: Frames, seconds: float, most_bytes: int) -> Strip:
    """uint8 [T, H, W, 3] as one WebP of T frames side by side, about `most_bytes` at most, for `seconds` of motion."""
    count, height, width, _ = frames.shape
    side_by_side = np.concatenate(list(frames), axis=1)
    return Strip(webp(side_by_side, most_bytes), count, round(width / height, 4), round(max(seconds, 0.5), 3))


def webp(image: Frames, most_bytes: int) -> str:
    """A data URI; quality falls until the picture fits."""
    for quality in QUALITIES:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=4)
        if buffer.tell() <= most_bytes:
            break
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def small(width: int, height: int, pixels: int) -> tuple[int, int]:
    """Even width and height of about `pixels`, aspect kept within 1:4 and 4:1, never enlarged."""
    ratio = min(max(width / height, 0.25), 4.0)
    scale = min((pixels / ratio) ** 0.5, float(max(height, 2)))
    return max(round(scale * ratio / 2) * 2, 2), max(round(scale / 2) * 2, 2)


def _spaced_clip(sample: Mapping[str, Any], frames: int, pixels: int) -> dict[str, Any]:
    clip: dict[str, Any] = {"key": sample["sample_id"], "start_s": sample["start_s"]}
    if sample["kind"] == "text":
        return clip
    width, height = small(sample["width"], sample["height"], pixels)
    clip.update(width=width, height=height)
    if sample["kind"] == "video":
        length = max(sample["end_s"] - sample["start_s"], 1e-3)
        clip.update(start_s=sample["start_s"] + length / frames / 2, fps=frames / length, frames=frames)
    return clip
