"""What `generate` and `ask` do: media in, requests to a studio, files out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import reelmill
from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation import Clip, SamplingParams, Studio
from reelmill.eval.generation.loading import found_model
from reelmill.eval.generation.media_files import read_clip, read_image, write_clip
from reelmill.eval.generation.pages import ENDINGS, write_page
from reelmill.pipelines.generate.progress import Show, check_preview
from reelmill.tokenize.documents import Header, grid_for_ratio
from reelmill.tokenize.vision.tokenizer import MAX_PIXELS


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to draw of each prompt: a picture, a video where `seconds` is not 0, or words and pictures in turn where
    `interleaved` (see `reelmill generate --help`)."""

    prompts: Sequence[str]
    ratio: str = "1:1"
    area: int = 128 * 128
    seconds: float = 0.0
    fps: float = 8.0
    image: Path | None = None
    video: Path | None = None
    context: float = 2.0
    interleaved: bool = False
    most: int = 4096
    negative: str = ""
    sampling: SamplingParams
    rows: int = 16
    compile: bool = False

    @property
    def endings(self) -> tuple[str, ...]:
        """Of the files that it writes; the first is taken where another is given."""
        return ENDINGS if self.interleaved else (".mp4",) if self.seconds else (".png",)

    def check(self) -> None:
        """Raise ConfigError where the parts do not go together."""
        self.sampling.check()
        if not self.prompts:
            raise ConfigError("there is nothing to draw; give --prompt or --prompts, an empty one for no words at all.")
        if self.area > MAX_PIXELS:
            raise ConfigError(f"--area is {self.area:,} pixels; at most {MAX_PIXELS:,} are drawn.")
        if self.image and self.video:
            raise ConfigError("--image and --video are both given; a video begins with one of them.")
        if self.interleaved and (self.seconds or self.video):
            raise ConfigError("--interleaved goes with --prompt and --image alone; the model chooses what it draws.")
        if (self.image or self.video) and not (self.seconds > 0 or self.interleaved):
            raise ConfigError(f"--seconds is {self.seconds:g}; say how much video to draw, --seconds 2.")
        if not (self.seconds >= 0 and self.fps > 0 and self.context > 0):
            raise ConfigError(
                f"--seconds {self.seconds:g}, --fps {self.fps:g}, --context {self.context:g}: seconds are 0 or more, "
                "the others above 0."
            )


def run_task(checkpoint: Path, tokenizer: str | None, task: Task, out: Path, preview: str = "") -> Iterator[str]:
    """Draw this process's share of the prompts into files; a line for each, as soon as it is written."""
    task.check()
    check_preview(preview)
    if out.suffix.lower() not in {".png", ".mp4", *ENDINGS}:
        raise ConfigError(f"--out is {out}; pictures are .png, videos .mp4, words and pictures in turn .md or .html.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out is {out}, and its folder cannot be made ({error.strerror}).") from error
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    mine = range(rank, len(task.prompts), ranks)
    if not mine:
        return
    place = found_model(checkpoint)
    studio = Studio.open(place, tokenizer)
    studio.rows, studio.compile = task.rows, task.compile
    settings = {"checkpoint": str(place), **described(task, studio)}
    with Show(studio, preview):
        for number, made in _made(studio, task, mine):
            path = out if len(task.prompts) == 1 else out.with_name(f"{out.stem}-{number:03d}{out.suffix}")
            path = path if path.suffix.lower() in task.endings else path.with_suffix(task.endings[0])
            own = {"prompt": task.prompts[number], "stream": number, **settings}
            if isinstance(made, Clip):
                write_clip(made, path, own)
                yield f"{path}: {_size(made)}"
            else:
                files = write_page(made, path, own)
                yield f"{path}: {sum(isinstance(part, str) for part in made)} texts, {len(files)} pictures or videos"


def described(task: Task, studio: Studio) -> dict[str, Any]:
    """What is written into a file beside its prompt, random stream and checkpoint."""
    sampling = task.sampling
    chosen: dict[str, Any] = {
        "negative": task.negative,
        **asdict(sampling.vision),
        "guidance": sampling.guidance,
        "seed": sampling.seed,
    }
    if task.interleaved:
        chosen |= {"text": asdict(sampling.text), "most": task.most}
    else:
        chosen |= {"ratio": task.ratio, "area": task.area}
    if task.seconds:
        chosen |= {"seconds": task.seconds, "fps": task.fps}
    if task.video:
        chosen["context"] = task.context
    chosen |= {name: str(path) for name, path in (("image", task.image), ("video", task.video)) if path}
    return {**chosen, "tokenizer": studio.vision.name, "reelmill": reelmill.__version__}


def studio_of(checkpoint: Path, tokenizer: str | None) -> Studio:
    """The studio of what `found_model` finds."""
    return Studio.open(found_model(checkpoint), tokenizer)


def read_prompts(path: Path) -> list[str]:
    """A prompt a line; empty lines are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text ({error}); give a UTF-8 file with a prompt a line") from error
    return [line.strip() for line in lines if line.strip()]


def _made(studio: Studio, task: Task, mine: range) -> Iterator[tuple[int, Clip | list[str | Clip]]]:
    """What was drawn of each of these prompts, with its number: its random stream, whatever process draws it."""
    cell = studio.vision.spatial
    begun = read_image(task.image, task.area, cell) if task.image else None
    prompts = [task.prompts[number] for number in mine]
    how: dict[str, Any] = {"sampling": task.sampling, "negative": task.negative}
    drawn: Iterator[tuple[int, Clip | list[str | Clip]]]
    if task.video:
        clip = read_clip(task.video, task.area, cell, task.fps, task.context)
        drawn = (
            (place, studio.future(clip, task.seconds, caption=prompt, window_s=task.context, stream=mine[place], **how))
            for place, prompt in enumerate(prompts)
        )
    elif task.interleaved:
        drawn = studio.pages(prompts, begun=begun, most=task.most, streams=mine, **how)
    else:
        h, w = (side // cell for side in begun.frames.shape[1:3]) if begun else grid_for_ratio(task.ratio, task.area)
        header = Header(h, w, task.fps, task.seconds) if task.seconds else Header(h, w)
        drawn = studio.visuals(prompts, header, begun=begun, streams=mine, **how)
    for place, made in drawn:
        yield mine[place], made


def _size(clip: Clip) -> str:
    frames, height, width = clip.frames.shape[:3]
    return f"{f'{frames} frames of ' if clip.fps else ''}{width}x{height} pixels"
