"""Which cut finder is right most often? `content`, `adaptive` and TransNet V2 on clips whose cuts are known.

    reelmill models pull transnetv2
    python bench/cuts.py [--joined N] [--seed S] [--labels FILE] [--no-rendered] [--json]

Three sets, each decoded as the expander does:

- `rendered`: the videos of the sample dump, with the cuts of its facts.
- `joined`: N films (12) of real shots, put together from a seed: the shots of the registry's footage, and camera moves
  over its photographs by a shaking hand, some with a swish pan that blurs the picture, some played three times as fast,
  some with a flash of one or two frames. Between them are cuts, dissolves of half a second, fades through black and
  dark title cards, in this order of frequency.
- `by eye`, with `--labels`: a JSON file {"video": {"cuts": [seconds], "either": [[from, to]]}}, paths relative to it.
  What lies in a span of `either` counts neither way: a person would not call it a cut, nor the same shot.

A cut is found when it is at most two frames off, a transition when a cut lies in it; further ones in it are no error.
CPU milliseconds a frame are those of finding alone, without decoding.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np
from transnet import SIZE, cuts, load

from reelmill import weights
from reelmill.compat import one_thread
from reelmill.curation.cut_finder import CutFinder
from reelmill.curation.scenes import ScenesConfig, detect_size
from reelmill.errors import Refused
from reelmill.media.limits import Limits
from reelmill.media.moving import Renderer
from reelmill.media.opening import open_moving
from reelmill.media.source import Source
from reelmill.pipelines.sampledump.videos import VIDEOS

WIDTH, HEIGHT, FPS = 320, 180, 25
NEAR = 2
FOOTAGE = {
    "media-bikes": [(0.0, 1.2), (1.2, 3.04), (3.04, 5.48), (5.48, 7.48), (7.48, 9.68)],
    "media-bigbuckbunny": [(0.0, 5.28)],
    "media-carphone": [(0.0, 4.0)],
}
"""Single shots of the registry's footage, seconds; the cuts of bikes.mp4 were confirmed by eye."""
PHOTOGRAPHS = ("media-china", "media-flower", "media-rocket", "media-astronaut")
BETWEEN = {"cut": 0.7, "dissolve": 0.1, "fade": 0.1, "card": 0.1}

Frames = np.ndarray


@dataclass
class Film:
    """Frames uint8 [T, h, w, 3] BGR; where cuts are, first and last frame that is right; what counts neither way."""

    name: str
    frames: Frames
    fps: float
    truth: list[tuple[int, int]]
    either: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Score:
    """Cuts found rightly and wrongly, cuts missed, and what finding cost."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    cpu_s: float = 0.0
    frames: int = 0

    def add(self, film: Film, found: list[int]) -> None:
        hit = [any(a - NEAR <= cut <= b + NEAR for cut in found) for a, b in film.truth]
        fine = [*film.truth, *film.either]
        self.right += sum(hit)
        self.missed += len(hit) - sum(hit)
        self.wrong += sum(not any(a - NEAR <= cut <= b + NEAR for a, b in fine) for cut in found)

    def summary(self) -> dict[str, float]:
        return {
            "cuts": self.right + self.missed,
            "right": self.right,
            "wrong": self.wrong,
            "precision": round(self.right / max(self.right + self.wrong, 1), 3),
            "recall": round(self.right / max(self.right + self.missed, 1), 3),
            "f1": round(2 * self.right / max(2 * self.right + self.wrong + self.missed, 1), 3),
            "ms_per_frame": round(1000 * self.cpu_s / self.frames, 2),
        }


def decoded(path: Path) -> tuple[Frames, float]:
    """The frames that the cut finders see, and their rate."""
    video, renderer = open_moving(Source(str(path), 0, path.stat().st_size), Limits()), Renderer()
    try:
        frames = [renderer.small(one, *detect_size(*one.look.stored)) for one in video.frames()]
        return np.stack(frames), video.facts.fps
    finally:
        video.close()


def rendered(folder: Path) -> Iterator[Film]:
    for video in VIDEOS:
        fact = video.fact()
        if fact.status == "refused":
            continue
        path = folder / Path(video.uri).name
        path.write_bytes(video.data())
        try:
            yield Film(video.uri, *decoded(path), [(cut, cut) for cut in fact.cuts])
        except Refused:
            continue


def labelled(file: Path) -> Iterator[Film]:
    for name, known in json.loads(file.read_text()).items():
        frames, fps = decoded(file.parent / name)
        cuts = [(round(fps * cut),) * 2 for cut in known["cuts"]]
        yield Film(name, frames, fps, cuts, [tuple(round(fps * s) for s in span) for span in known.get("either", [])])


class Shots:
    """Draws shots of one size."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._filmed = [shot for name, spans in FOOTAGE.items() for shot in _filmed(weights.path(name), spans)]
        self._photos = [cv2.imread(str(weights.path(name))) for name in PHOTOGRAPHS]

    def draw(self, length: int) -> Frames:
        """A shot of so many frames at most, at least half of them."""
        rng = self._rng
        if rng.random() < 0.5:
            shot = self._filmed[rng.integers(len(self._filmed))]
            fast = 3 if rng.random() < 0.25 and len(shot) >= 3 * length // 2 else 1
            shot = shot[rng.integers(max(len(shot) - fast * length, 0) + 1) :][::fast][:length]
        else:
            shot = self._camera(self._photos[rng.integers(len(self._photos))], length)
        if rng.random() < 0.5:
            shot = shot[:, :, ::-1]
        shot = np.clip(shot * rng.uniform(0.6, 1.15), 0, 255).astype(np.uint8)
        if rng.random() < 0.15:  # a flash, in the middle half
            at = len(shot) // 4 + int(rng.integers(len(shot) // 2))
            shot[at : at + int(rng.integers(1, 3))] = np.clip(shot[at] * 0.2 + 210, 0, 255).astype(np.uint8)
        return shot

    def _camera(self, photo: Frames, length: int) -> Frames:
        """A hand-held camera over a photograph: it drifts, trembles, zooms, may swish; what moves fast is blurred."""
        rng, (rows, columns) = self._rng, photo.shape[:2]
        zoom = rng.uniform(0.35, 0.6) * (1 + rng.uniform(-0.15, 0.15) * np.linspace(0, 1, length))
        speed = np.tile(rng.normal(0, 0.001, 2), (length, 1)) + rng.normal(0, 0.0015, (length, 2))
        if rng.random() < 0.35:
            at = int(rng.integers(length // 4, length // 2))
            speed[at : at + 10] += rng.choice([-1, 1], 2) * rng.uniform(0.02, 0.045, 2)
        place = np.clip(rng.uniform(0.35, 0.65, 2) + np.cumsum(speed, axis=0), 0.05, 0.95)
        moved = np.diff(place, axis=0, prepend=place[:1])
        side = min(columns, rows * WIDTH / HEIGHT)
        frames = []
        for (y, x), z, (dy, dx) in zip(place, zoom, moved, strict=True):
            blurred = []
            for part in np.linspace(-0.5, 0.5, 9 if np.hypot(dx, dy) > 0.004 else 1):
                width, height = side * z, side * z * HEIGHT / WIDTH
                left, top = (x + part * dx) * (columns - width), (y + part * dy) * (rows - height)
                to = np.float32(
                    [[WIDTH / width, 0, -left * WIDTH / width], [0, HEIGHT / height, -top * HEIGHT / height]]
                )
                blurred.append(cv2.warpAffine(photo, to, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT))
            frames.append(np.mean(blurred, axis=0))
        return np.stack(frames).astype(np.uint8)


def _filmed(path: Path, spans: list[tuple[float, float]]) -> Iterator[Frames]:
    frames, fps = decoded(path)
    height, width = frames.shape[1:3]
    rows = min(height, round(width * HEIGHT / WIDTH))
    columns = min(width, round(rows * WIDTH / HEIGHT))
    top, left = (height - rows) // 2, (width - columns) // 2
    for start, end in spans:
        shot = frames[round(start * fps) : round(end * fps), top : top + rows, left : left + columns]
        yield np.stack([cv2.resize(frame, (WIDTH, HEIGHT)) for frame in shot])


def joined(folder: Path, count: int, seed: int) -> Iterator[Film]:
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        shots, frames, truth = Shots(rng), [], []
        parts = [shots.draw(int(rng.integers(25, 90))) for _ in range(7)]
        frames.extend(parts[0])
        for shot in parts[1:]:
            how = rng.choice(list(BETWEEN), p=list(BETWEEN.values()))
            truth.append(_join(frames, shot, how, rng))
        path = folder / f"joined-{number}.mp4"
        _write(path, frames)
        yield Film(path.name, *decoded(path), truth)


def _join(frames: list[Frames], shot: Frames, how: str, rng: np.random.Generator) -> tuple[int, int]:
    """Put a shot behind the frames; the first and the last frame at which a cut is right."""
    at, n = len(frames), 12
    black = np.zeros_like(shot[0])
    if how == "dissolve":
        for k in range(n):
            frames[at - n + k] = cv2.addWeighted(frames[at - n + k], 1 - k / n, shot[k], k / n, 0)
        frames.extend(shot[n:])
        return at - n, at
    if how == "cut":
        frames.extend(shot)
        return at, at
    between = [black] * int(rng.integers(3, 15))
    if how == "card":
        card = cv2.putText(black.copy(), "The next day", (70, 95), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (220, 220, 220), 1)
        between = [card] * int(rng.integers(25, 50))
    for k in range(n):
        frames[at - n + k] = (frames[at - n + k] * (1 - (k + 1) / n)).astype(np.uint8)
    risen = [(shot[k] * (k + 1) / n).astype(np.uint8) for k in range(n)]
    frames.extend([*between, *risen, *shot[n:]])
    return at - n, at + len(between) + n


def _write(path: Path, frames: list[Frames]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "26", "preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="bgr24")))
        container.mux(stream.encode())


def finder(**settings: object) -> Callable[[Film], list[int]]:
    def found(film: Film) -> list[int]:
        finder = CutFinder(ScenesConfig(**settings), film.fps)
        for frame in film.frames:
            finder.feed(frame)
        finder.finish()
        return finder.settled(after=0)

    return found


def transnet() -> Callable[[Film], list[int]]:
    model = load(weights.path("transnetv2"))

    def found(film: Film) -> list[int]:
        small = [cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA)[..., ::-1] for frame in film.frames]
        return cuts(model, np.stack(small))

    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--joined", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--no-rendered", action="store_true", help="leave the sample dump's videos out")
    parser.add_argument("--show", action="store_true", help="print each film's cuts and what was found")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    one_thread()
    cv2.setNumThreads(1)
    finders = {
        "content": finder(detector="content"),
        "adaptive": finder(detector="adaptive"),
        "TransNet V2": transnet(),
    }
    scores: dict[str, dict[str, Score]] = {}
    with tempfile.TemporaryDirectory() as folder:
        sets = {"joined": joined(Path(folder), arguments.joined, arguments.seed)}
        if arguments.labels:
            sets["by eye"] = labelled(arguments.labels)
        if not arguments.no_rendered:
            sets["rendered"] = rendered(Path(folder))
        for place, films in sets.items():
            for film in films:
                for name, find in finders.items():
                    began = time.process_time()
                    found = find(film)
                    spent = time.process_time() - began
                    for where in (place, "all"):
                        score = scores.setdefault(where, {}).setdefault(name, Score())
                        score.add(film, found)
                        score.cpu_s, score.frames = score.cpu_s + spent, score.frames + len(film.frames)
                    if arguments.show:
                        print(film.name, film.truth, name, found, flush=True)
    result = {place: {name: score.summary() for name, score in some.items()} for place, some in scores.items()}
    if arguments.json:
        print(json.dumps(result))
        return
    for place, some in result.items():
        for name, values in some.items():
            print(f"{place:9} {name:12}", "  ".join(f"{key} {value:g}" for key, value in values.items()))


if __name__ == "__main__":
    main()
