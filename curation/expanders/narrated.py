"""A long video becomes one sample of key frames, or several one after another; the pass is that of `video.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np

from reelmill.config import from_dict
from reelmill.curation.clips import FILTER
from reelmill.curation.expanders.video import RUN, Pass, Sampled, Scene
from reelmill.curation.keyframe_picker import Candidate, Keyframe, KeyframePicker
from reelmill.curation.keyframes import KeyframesConfig, Problem
from reelmill.isolation import wire
from reelmill.media.details import no_details
from reelmill.media.geometry import code_grid
from reelmill.media.limits import Limits
from reelmill.media.moving import Moving
from reelmill.media.opening import open_moving
from reelmill.media.rights import video_rights
from reelmill.media.source import Source


def expand(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """Samples of a video that end with a scene after `keyframes.span_s`, each after its key frames.

    With `options["pictures"]` (the arguments of `code_grid` beside the size) also pictures of good key frames: what a
    clip of that frame alone would be (`curation/clips.py`).
    """
    cv2.setNumThreads(1)
    video = open_moving(source, Limits.of(options))
    try:
        narrated = _Narrated(video, options)
        yield from narrated.samples()
        yield from narrated.flush()
        video.check_length()
    finally:
        video.close()
    rights = asdict(video_rights(video.metadata, source))
    yield {"type": "item", **asdict(video.facts), **rights, "sha256": source.sha256()}, {}


class _Narrated(Pass):
    """Holds the key frames of the scenes since the open sample began."""

    def __init__(self, video: Moving, options: dict[str, Any]) -> None:
        super().__init__(video, options)
        self._keyframes = from_dict(KeyframesConfig, options["keyframes"])
        self._picker = KeyframePicker(self._keyframes)
        self._pictures: dict[str, Any] | None = options.get("pictures")
        self._held: list[Keyframe] = []
        self._runs: list[wire.Array] = []
        self._details: dict[float, wire.Array] = {}
        self._size: dict[str, Any] = {}
        self._span = (0.0, 0.0)

    def flush(self) -> Iterator[wire.Message]:
        """The open sample, if there is one: its key frames, then the sample with the good ones' pictures."""
        start_s, end_s = self._span
        if end_s <= start_s:
            return
        held, good = self._held, [k for k in self._held if k.problem is Problem.NONE]
        columns = {
            "times": [k.candidate.time_s for k in held],
            "scene_starts": [k.scene_start_s for k in held],
            "scene_ends": [k.scene_end_s for k in held],
            "sharpness": [k.sharpness for k in held],
            "luma": [k.luma for k in held],
            "difference": [k.difference for k in held],
        }
        arrays: dict[str, wire.Array] = {name: np.array(values, np.float64) for name, values in columns.items()}
        yield {"type": "keyframes"}, {**arrays, "problems": np.array([k.problem for k in held], np.uint8)}
        found = self._flaws_between(start_s, end_s)
        images = [k.candidate.image for k in good]
        yield (
            {"type": "sample", "start_s": start_s, "end_s": end_s, **self._size, **found},
            {
                "images": np.stack(images) if images else np.zeros((0, 1, 1, 3), np.uint8),
                "times": np.array([k.candidate.time_s for k in good], np.float64),
                "runs": np.stack(self._runs) if self._runs else np.zeros((0, RUN, 1, 1), np.uint8),
                "details": np.stack([self._details[k.candidate.time_s] for k in good]) if good else no_details(),
            },
        )
        self._held, self._runs, self._details, self._span = [], [], {}, (end_s, end_s)

    def _shown(self, sampled: Sequence[Sampled]) -> Iterator[wire.Message]:
        """Pictures of key frames at the size that tokens want, of the frames that are still held."""
        for one in sampled:
            if self._pictures is None or one.held is None:
                continue
            cell, look = self._pictures["cell"], one.held.look
            rows, columns = code_grid(look.width, look.height, **self._pictures)
            if rows and columns:
                picture = self._renderer.upright(one.held, columns * cell, rows * cell, FILTER)
                yield {"type": "picture", "time_s": one.time_s}, {"frames": picture[None]}

    def _scene(self, scene: Scene) -> Iterator[wire.Message]:
        size, start_s, end_s = self._sizes(), scene.start_s, scene.end_s
        if size != self._size:
            yield from self.flush()
            self._size, self._span = size, (start_s, start_s)
        candidates = [Candidate(s.time_s, s.image) for s in scene.sampled if start_s <= s.time_s < end_s]
        picked = self._picker.scene(start_s, end_s, candidates)
        times = {k.candidate.time_s for k in picked if k.problem is Problem.NONE}
        self._runs += [np.stack(s.run) for s in scene.sampled if s.time_s in times and len(s.run) == RUN]
        self._details |= {s.time_s: s.details for s in scene.sampled if s.time_s in times}
        yield from self._shown([s for s in scene.sampled if s.time_s in times])
        self._held += picked
        self._span = (self._span[0], end_s)
        if end_s - self._span[0] >= self._keyframes.span_s:
            yield from self.flush()
