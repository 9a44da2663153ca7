"""What `generate` and `ask` do: media in, requests to a studio, files out, a line of progress."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation import Clip, Drawn, Sampling, Studio
from reelmill.eval.generation.files import read_clip, read_image, write_clip
from reelmill.tokenize.documents import Header, grid_for_ratio
from reelmill.train.checkpoint import find
from reelmill.train.vision.media import Source


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to draw: a picture for each prompt, or a video where `seconds` is not 0 (see `reelmill generate --help`)."""

    prompts: list[str]
    ratio: str
    area: int
    seconds: float
    fps: float
    image: Path | None
    video: Path | None
    context: float
    negative: str
    sampling: Sampling

    def check(self) -> None:
        """Raise ConfigError where the parts do not go together."""
        if self.image and self.video:
            raise ConfigError("--image and --video are both given; a video begins with one of them.")
        if (self.image or self.video) and not self.seconds > 0:
            raise ConfigError(f"--seconds is {self.seconds:g}; say how much video to draw, --seconds 2.")
        if not (self.seconds >= 0 and self.fps > 0 and self.context > 0):
            raise ConfigError(
                f"--seconds {self.seconds:g}, --fps {self.fps:g}, --context {self.context:g}: seconds are 0 or more, "
                "the others above 0."
            )


def run_task(checkpoint: Path, tokenizer: str | None, task: Task, out: Path) -> Iterator[str]:
    """Draw this process's share of the prompts into files; a line for each."""
    task.check()
    ending = ".mp4" if task.seconds else ".png"
    if out.suffix.lower() not in {".png", ".mp4"}:
        raise ConfigError(f"--out is {out}; pictures are written as .png, videos as .mp4.")
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    mine = range(rank, len(task.prompts), ranks)
    place = found_checkpoint(checkpoint)
    studio = Studio.open(place, tokenizer)
    settings = {"checkpoint": str(place), "negative": task.negative, **_described(task.sampling)}
    with _progress(studio):
        clips = _videos(studio, task, mine) if task.seconds else _images(studio, task, mine)
        for number, clip in zip(mine, clips, strict=True):
            path = out if len(task.prompts) == 1 else out.with_name(f"{out.stem}-{number:03d}{out.suffix}")
            path = path.with_suffix(ending)
            write_clip(clip, path, {"prompt": task.prompts[number], "stream": number, **settings})
            frames, height, width = clip.frames.shape[:3]
            yield f"{path}: {f'{frames} frames of ' if clip.fps else ''}{width}x{height} pixels"


def studio_of(checkpoint: Path, tokenizer: str | None) -> Studio:
    """The studio of a checkpoint or of a training run's last one."""
    return Studio.open(found_checkpoint(checkpoint), tokenizer)


def found_checkpoint(place: Path) -> Path:
    """The checkpoint that `place` is, or the last one of the run that it is."""
    found = find(place)
    if found is None:
        raise DataError(f"{place} is neither a checkpoint nor a training run with one; see `reelmill train --help`")
    return found


def read_media(path: Path, area: int, multiple: int, fps: float, seconds: float) -> Clip:
    """A picture, or the last `seconds` of a video at `fps`."""
    if Source(path).is_video:
        return read_clip(path, area, multiple, fps, seconds)
    return read_image(path, area, multiple)


def _images(studio: Studio, task: Task, mine: range) -> list[Clip]:
    h, w = grid_for_ratio(task.ratio, task.area)
    prompts = [task.prompts[number] for number in mine]
    # One random stream a prompt, whatever process draws it.
    images = studio.images(prompts, h, w, sampling=task.sampling, negative=task.negative, streams=mine)
    return [Clip(image[None]) for image in images]


def _videos(studio: Studio, task: Task, mine: range) -> Iterator[Clip]:
    cell = studio.vision.spatial
    for number in mine:
        prompt, how = task.prompts[number], {"sampling": task.sampling, "negative": task.negative}
        if task.video:
            clip = read_clip(task.video, task.area, cell, task.fps, task.context)
            yield studio.future(clip, task.seconds, caption=prompt, window_s=task.context, **how)  # type: ignore[arg-type]
            continue
        begun = read_image(task.image, task.area, cell) if task.image else None
        h, w = (side // cell for side in begun.frames.shape[1:3]) if begun else grid_for_ratio(task.ratio, task.area)
        header = Header(h, w, task.fps, task.seconds)
        yield studio.video(prompt, header, begun=begun, stream=number, **how)  # type: ignore[arg-type]


def _described(sampling: Sampling) -> dict[str, Any]:
    vision = sampling.vision
    return {
        "temperature": vision.temperature,
        "top_k": vision.top_k,
        "top_p": vision.top_p,
        "guidance": sampling.guidance,
        "seed": sampling.seed,
    }


def _progress(studio: Studio) -> Progress:
    """Tokens a second and the time left, on a terminal; the studio tells it of each token."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True), disable=not Console(stderr=True).is_terminal)
    bar = progress.add_task("tokens", total=None)

    def watch(drawn: Drawn, count: int, most: int) -> None:
        progress.update(bar, completed=count, total=most)

    studio.watch = watch
    return progress
