"""A video becomes scenes: one sequential pass feeds the cut detectors and the sampled frames of all scorers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import cv2
import numpy as np

from reelmill.config import from_dict
from reelmill.curation.cut_finder import CutFinder
from reelmill.curation.scenes import ScenesConfig, detect_size, divide
from reelmill.curation.trimming import Seen, Watcher, frozen_share, trimmed
from reelmill.isolation import wire
from reelmill.media.details import details, no_details
from reelmill.media.geometry import fit
from reelmill.media.impossible import impossible_share
from reelmill.media.limits import Limits
from reelmill.media.moving import Decoded, Look, Moving, Renderer
from reelmill.media.opening import open_moving
from reelmill.media.planes import luma
from reelmill.media.rights import video_rights
from reelmill.media.source import Source

RUN = 3
TICK_S = 1.0
HELD_BYTES = 512 * 1024**2
"""What decoded frames that are held for pictures of key frames may take: 1.4 MB each at 1280x720."""
LOOKED_AT = 3
"""Impossible colors are looked for in every third frame and in key frames: the others are predicted from those."""


@dataclass
class Sampled:
    """A frame that scorers see, squares of its own pixels, and the run of native frames that begins at it. `held`: the
    frame itself, where pictures of key frames are wanted and there is room."""

    index: int
    time_s: float
    image: wire.Array
    details: wire.Array
    run: list[wire.Array] = field(default_factory=list)
    held: Decoded | None = None


@dataclass(frozen=True)
class Scene:
    """The frames between two cuts: all that were seen, in their order, and those that are sampled."""

    start_s: float
    end_s: float
    seen: list[Seen]
    sampled: list[Sampled]


class _Flaw(NamedTuple):
    """What was looked for in a frame: whether it is damaged, how many are missing before it, its impossible colors."""

    time_s: float
    damaged: int
    missing: int = 0
    impossible: float | None = None


def expand(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """Samples of a video, scene by scene, or the `spans` that are given; memory is bounded by `scenes.max_open_s`."""
    cv2.setNumThreads(1)
    video = open_moving(source, Limits.of(options))
    try:
        yield from (GivenSpans if options.get("spans") else Pass)(video, options).samples()
        video.check_length()
    finally:
        video.close()
    rights = asdict(video_rights(video.metadata, source))
    yield {"type": "item", **asdict(video.facts), **rights, "sha256": source.sha256()}, {}


class Pass:
    """One pass over a video's frames. A size that changes is a cut: from there on everything begins anew."""

    def __init__(self, video: Moving, options: dict[str, Any]) -> None:
        self._video = video
        self._config = from_dict(ScenesConfig, options["scenes"])
        self._renderer = Renderer()
        self._sampler = _Sampler(self._renderer, options["sample_fps"], options["short_side"], options["long_side"])
        self._sampler.hold = bool(options.get("pictures"))
        self._watcher = Watcher(self._config.fade_threshold)
        self._seen: deque[Seen] = deque()  # the frames since the open scene began
        self._flaws: deque[_Flaw] = deque()  # of those frames
        self._look: Look | None = None
        self._start = self._first = 0  # frames at which the open scene and the frames of this size begin
        self._scenes = 0

    def samples(self) -> Iterator[wire.Message]:
        """Samples as scenes close, and ticks."""
        finder = self._new_finder()
        ticked = time.monotonic()
        for decoded in self._video.frames():
            if decoded.follows_loss and self._seen:
                self._flaws.append(_Flaw(self._seen[-1].time_s, 1))  # that frame is seen in place of those
            if decoded.look is not self._look:
                yield from self._finish(finder, decoded)
                finder, self._look = self._new_finder(), decoded.look
            small = self._renderer.small(decoded, *detect_size(*decoded.look.stored))
            finder.feed(small)
            self._sampler.feed(decoded, small)
            self._seen.append(self._watcher.look(decoded.index, decoded.time_s, small))
            self._note_flaws(decoded)
            yield from self._settled(finder)
            if decoded.time_s - self._seen[0].time_s >= self._config.max_open_s:
                yield from self._close(decoded.index)
            if time.monotonic() - ticked > TICK_S:
                ticked = time.monotonic()
                yield wire.tick(decoded.time_s, self._video.declared_s)
        yield from self._finish(finder, None)

    def _note_flaws(self, decoded: Decoded) -> None:
        is_looked_at = decoded.is_key or decoded.index % LOOKED_AT == 0
        impossible = impossible_share(decoded.frame) if is_looked_at else None
        if decoded.is_damaged or decoded.missing or impossible is not None:
            self._flaws.append(_Flaw(decoded.time_s, int(decoded.is_damaged), decoded.missing, impossible))

    def _new_finder(self) -> CutFinder:
        return CutFinder(self._config, self._video.facts.fps)

    def _settled(self, finder: CutFinder) -> Iterator[wire.Message]:
        for cut in finder.settled(after=self._start - self._first):
            yield from self._close(self._first + cut)

    def _close(self, cut: int) -> Iterator[wire.Message]:
        """End the open scene before frame `cut`."""
        seen = []
        while self._seen[0].index < cut:
            seen.append(self._seen.popleft())
        self._start = cut
        yield from self._scene(Scene(seen[0].time_s, self._seen[0].time_s, seen, self._sampler.take(cut)))

    def _finish(self, finder: CutFinder, following: Decoded | None) -> Iterator[wire.Message]:
        """End everything before the frame `following`, or at the end."""
        if self._seen:
            finder.finish()
            yield from self._settled(finder)
            end_s = self._video.end_s if following is None else following.time_s
            if following is None and self._video.errors_at_end:
                self._flaws.append(_Flaw(self._seen[-1].time_s, self._video.errors_at_end))
            seen = list(self._seen)
            self._seen.clear()
            yield from self._scene(Scene(seen[0].time_s, end_s, seen, self._sampler.take(None)))
        if following is not None:
            self._start = self._first = following.index

    def _scene(self, scene: Scene) -> Iterator[wire.Message]:
        """The samples of a scene: what is left when its ends are trimmed, divided where it is long."""
        start_s, end_s = scene.start_s, scene.end_s
        if self._config.trim:
            start_s, end_s = trimmed(scene.seen, end_s)
        for start, end in divide(start_s, end_s, self._config.max_s):
            trims = {
                "trim_start_s": start_s - scene.start_s if start == start_s else 0.0,
                "trim_end_s": scene.end_s - end_s if end == end_s else 0.0,
            }
            yield self._sample(scene, start, end, {"scene": self._scenes, **trims})
        self._scenes += 1

    def _sample(self, scene: Scene, start: float, end: float, place: dict[str, Any]) -> wire.Message:
        """What is said of a part of a scene; `place` is its place in it."""
        inside = [s for s in scene.sampled if start <= s.time_s < end]
        runs = [np.stack(s.run) for s in inside if len(s.run) == RUN]
        arrays = {
            "images": np.stack([s.image for s in inside]) if inside else np.zeros((0, 1, 1, 3), np.uint8),
            "times": np.array([s.time_s for s in inside], np.float64),
            "runs": np.stack(runs) if runs else np.zeros((0, RUN, 1, 1), np.uint8),
            "details": np.stack([s.details for s in inside]) if inside else no_details(),
        }
        frozen = frozen_share([frame for frame in scene.seen if start <= frame.time_s < end], end)
        facts = {**self._sizes(), **self._flaws_between(start, end), **place, "frozen_share": frozen}
        return {"type": "sample", "start_s": start, "end_s": end, **facts}, arrays

    def _sizes(self) -> dict[str, Any]:
        """Size and rate of the frames of now, as a sample states them."""
        assert self._look is not None
        return {"width": self._look.width, "height": self._look.height, "fps": self._video.facts.fps}

    def _flaws_between(self, start_s: float, end_s: float) -> dict[str, Any]:
        """What a sample states of the damage in its span; spans are asked for in order, each once."""
        flaws = []
        while self._flaws and self._flaws[0].time_s < end_s:
            flaws.append(self._flaws.popleft())
        flaws = [flaw for flaw in flaws if flaw.time_s >= start_s]
        damaged, missing = sum(flaw.damaged for flaw in flaws), sum(flaw.missing for flaw in flaws)
        impossible = max((flaw.impossible for flaw in flaws if flaw.impossible is not None), default=None)
        return {"damaged_frames": damaged, "missing_frames": max(missing, 0), "impossible_colours": impossible}


class GivenSpans(Pass):
    """The same pass where it is known what the clips are: spans of seconds, which may overlap. Nothing is looked for.

    Spans longer than `scenes.max_open_s` are divided; what lies after the video's end is cut off.
    """

    def __init__(self, video: Moving, options: dict[str, Any]) -> None:
        super().__init__(video, options)
        most = self._config.max_open_s
        parts = [part for start, end in options["spans"] for part in divide(start, end, most)]
        self._left = sorted(set(parts), key=lambda span: (span[1], span[0]))

    def samples(self) -> Iterator[wire.Message]:
        """Samples as their spans end, and ticks."""
        ticked, last_s = time.monotonic(), 0.0
        for decoded in self._video.frames():
            if decoded.follows_loss:
                self._flaws.append(_Flaw(last_s, 1))
            last_s = decoded.time_s
            yield from self._ended(decoded.time_s, decoded.index)
            if decoded.look is not self._look:
                yield from self._split(decoded)
                self._look = decoded.look
            if any(start <= decoded.time_s for start, _ in self._left):
                small = self._renderer.small(decoded, *detect_size(*decoded.look.stored))
                self._sampler.feed(decoded, small)
                self._seen.append(self._watcher.look(decoded.index, decoded.time_s, small))
                self._note_flaws(decoded)
            if time.monotonic() - ticked > TICK_S:
                ticked = time.monotonic()
                yield wire.tick(decoded.time_s, self._video.declared_s)
        if self._look is not None:
            self._left = [(start, min(end, self._video.end_s)) for start, end in self._left]
            yield from self._ended(self._video.end_s, None)

    def _ended(self, now_s: float, index: int | None) -> Iterator[wire.Message]:
        """Samples of the spans that end here at the latest; frames that no other span needs are let go."""
        ended = [span for span in self._left if span[1] <= now_s]
        for start, end in ended:
            if start < end:
                scene = Scene(start, end, list(self._seen), self._sampler.between(start, end, index))
                yield self._sample(scene, start, end, {})
        if ended:
            self._left = [span for span in self._left if span[1] > now_s]
            first = min((start for start, _ in self._left), default=now_s)
            self._sampler.forget(first)
            self._flaws = deque(flaw for flaw in self._flaws if flaw.time_s >= first)
            self._seen = deque(frame for frame in self._seen if frame.time_s >= first)

    def _split(self, decoded: Decoded) -> Iterator[wire.Message]:
        """Where the size changes, spans that have begun end, and begin anew."""
        now = decoded.time_s
        begun = [(start, end) for start, end in self._left if start < now]
        if self._look is not None and begun:
            self._left = [(start, min(end, now)) for start, end in begun] + [s for s in self._left if s not in begun]
            yield from self._ended(now, decoded.index)
            self._left = sorted({*self._left, *((now, end) for _, end in begun)}, key=lambda span: (span[1], span[0]))

    def _flaws_between(self, start_s: float, end_s: float) -> dict[str, Any]:
        """As above; others may need the same flaws."""
        kept, self._flaws = self._flaws, deque(flaw for flaw in self._flaws if start_s <= flaw.time_s < end_s)
        found = super()._flaws_between(start_s, end_s)
        self._flaws = kept
        return found


class _Sampler:
    """Keeps frames at a fixed rate, and a run of neighboring native frames at each."""

    def __init__(self, renderer: Renderer, rate: float, short_side: int, long_side: int) -> None:
        self._renderer, self._step = renderer, 1.0 / rate
        self._sides = (short_side, long_side)
        self._next = 0
        self._kept: list[Sampled] = []
        self.hold = False
        """Whether the sampled frames themselves are held, the last HELD_BYTES of them."""

    def feed(self, decoded: Decoded, small: wire.Array) -> None:
        """The next frame, and the BGR picture of it that the cut detectors saw: runs are made of those."""
        look = decoded.look
        if decoded.time_s >= self._next * self._step - 1e-6:
            self._next = int(decoded.time_s / self._step + 1e-6) + 1
            image = self._renderer.upright(decoded, *fit(look.width, look.height, *self._sides), "fast_bilinear")
            self._kept.append(Sampled(decoded.index, decoded.time_s, image, details(luma(decoded.frame))))
            if self.hold:
                self._kept[-1].held = decoded
                self._let_go(sum(plane.buffer_size for plane in decoded.frame.planes))
        if self._kept:
            last = self._kept[-1]
            if len(last.run) < RUN and decoded.index == last.index + len(last.run):
                last.run.append(look.orientation.upright(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)))

    def _let_go(self, frame_bytes: int) -> None:
        """Hold no more frames than there is room for: the earliest goes. All of one size but for those before a cut."""
        held = [sampled for sampled in self._kept if sampled.held is not None]
        for sampled in held[: max(len(held) - HELD_BYTES // max(frame_bytes, 1), 0)]:
            sampled.held = None

    def between(self, start_s: float, end_s: float, cut: int | None) -> list[Sampled]:
        """The frames kept of a span, which stay, without runs that reach frame `cut`."""
        inside = [s for s in self._kept if start_s <= s.time_s < end_s]
        return [replace(s, run=[]) if cut is not None and s.index + RUN > cut else s for s in inside]

    def forget(self, before_s: float) -> None:
        """Let go of frames before a time."""
        self._kept = [s for s in self._kept if s.time_s >= before_s]

    def take(self, cut: int | None) -> list[Sampled]:
        """The frames kept before frame `cut` (all, for None), without runs that cross it."""
        taken = [s for s in self._kept if cut is None or s.index < cut]
        self._kept = [s for s in self._kept if cut is not None and s.index >= cut]
        for sampled in taken:
            if cut is not None and sampled.index + RUN > cut:
                sampled.run = []
        return taken
