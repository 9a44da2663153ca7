"""The options of `reelmill generate` and `reelmill ask`, checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reelmill.errors import ConfigError
from reelmill.eval.generation import SamplingParams
from reelmill.eval.generation.decoding import check_decode
from reelmill.eval.generation.pages import ENDINGS as PAGE_ENDINGS
from reelmill.eval.generation.studio import PICTURE_TASKS
from reelmill.eval.generation.weight_types import check_weights
from reelmill.pipelines.generate.progress import check_preview
from reelmill.pipelines.generate.prompts import check_text
from reelmill.tokenize.documents import task_system
from reelmill.tokenize.vision.tokenizer import MAX_PIXELS

AUTO = "auto"
"""The ratio with which a model writes the size of a picture itself."""
SQUARE = "1:1"
PAGE_TOKENS = 4096
"""The most tokens of a page, if neither an option nor a preset says otherwise."""
MAX_REFERENCES = 3
"""Pictures of a task, as in Emu3.5's released configurations."""


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """What `reelmill generate` makes for each prompt: a picture, or a video if `seconds` is not 0, or with
    `interleaved` a page of text and pictures, or the answer in a `task`. `max_tokens` 0 is the usual number.
    `reelmill generate --help` explains each option."""

    model: Path
    tokenizer: str | None = None
    prompts: Sequence[str]
    out: Path
    sampling: SamplingParams
    ratio: str | None = None
    area: int = 128 * 128
    seconds: float = 0.0
    fps: float = 8.0
    images: Sequence[Path] = ()
    video: Path | None = None
    context_seconds: float = 2.0
    interleaved: bool = False
    task: str | None = None
    max_tokens: int = 0
    preview: str = ""
    rows: int = 16
    compile: bool = False
    decode: str = "plain"
    steps: int | None = None
    lag: int | None = None
    json: bool = False
    tensor: int = 1
    weights: str | None = None

    @property
    def endings(self) -> tuple[str, ...]:
        """The possible endings of the output files. The first one is the default."""
        if self.is_page:
            return PAGE_ENDINGS
        return (".mp4",) if self.seconds else (".png",)

    @property
    def is_page(self) -> bool:
        """Whether text and pictures are written in turn."""
        return self.interleaved or (self.task is not None and self.task not in PICTURE_TASKS)

    @property
    def rows_used(self) -> int:
        """Of `rows`, those that the prompts take, of all processes together: what files say of `decode` auto must not
        depend on how many there are."""
        guided = (self.sampling.guidance != 1) + (self.task is not None and self.sampling.image_guidance != 1)
        return min(self.rows, (1 + guided) * len(self.prompts))

    def path(self, number: int) -> Path:
        """The file for prompt `number`: `out`, numbered if there are several prompts, with a suitable ending."""
        path = self.out
        if len(self.prompts) > 1:
            path = path.with_name(f"{path.stem}-{number:03d}{path.suffix}")
        return path if path.suffix.lower() in self.endings else path.with_suffix(self.endings[0])

    def check(self) -> None:
        """Raise ConfigError for options that are wrong or do not fit together, DataError for text that is not UTF-8."""
        self.sampling.check()
        check_preview(self.preview)
        check_decode(self.decode, self.steps, self.lag)
        if self.weights is not None:
            check_weights(self.weights)
        if not self.prompts:
            raise ConfigError('there is no prompt; give --prompt or --prompts (--prompt "" to generate without one).')
        for number, prompt in enumerate(self.prompts, 1):
            check_text(prompt, f"prompt {number}")
        check_text(self.sampling.negative, "--negative")
        if self.area > MAX_PIXELS:
            raise ConfigError(f"--area is {self.area:,} pixels; the maximum is {MAX_PIXELS:,}.")
        if self.images and self.video:
            raise ConfigError("--image and --video are both given; a video begins with one of them.")
        if self.tensor > 1 and self.compile:
            raise ConfigError("--tensor and --compile are both given; a shared model's steps are not compiled.")
        self._check_task()
        if self.interleaved and (self.seconds or self.video):
            raise ConfigError("--interleaved takes --prompt and --image alone; the model chooses what it generates.")
        if (self.images or self.video) and not (self.seconds > 0 or self.interleaved or self.task):
            raise ConfigError(f"--seconds is {self.seconds:g}; say how much video to generate, as in --seconds 2.")
        if not (self.seconds >= 0 and self.fps > 0 and self.context_seconds > 0):
            raise ConfigError(
                f"--seconds is {self.seconds:g}, --fps {self.fps:g}, --context-seconds {self.context_seconds:g}; "
                "--seconds must be 0 or more, the others above 0."
            )
        if self.out.suffix.lower() not in {".png", ".mp4", *PAGE_ENDINGS}:
            raise ConfigError(
                f"--out is {self.out}; give a .png for pictures, .mp4 for videos, .md or .html for pages."
            )

    def _check_task(self) -> None:
        """Raise ConfigError for options that a task does not take, or that are for tasks alone."""
        if self.task is None:
            if len(self.images) > (2 if self.seconds and self.decode == "dida" else 1):
                raise ConfigError(
                    f"--image is given {len(self.images)} times; several pictures are for --task, and two, the first "
                    "and the last of a video, for --seconds with --decode dida."
                )
            if self.sampling.image_guidance != 1:
                raise ConfigError("--image-guidance is given without --task; it is guidance by the pictures of a task.")
            if self.ratio == AUTO:
                raise ConfigError(f"--ratio is {AUTO}, and only with --task does the model choose; give W:H.")
            return
        task_system(self.task)  # it knows the names
        if self.interleaved or self.seconds or self.video:
            raise ConfigError("--task takes --prompt and --image; --interleaved, --seconds and --video are without it.")
        if len(self.images) > MAX_REFERENCES:
            raise ConfigError(f"--image is given {len(self.images)} times; a task takes at most {MAX_REFERENCES}.")
        if self.task == "t2i" and self.images:
            raise ConfigError("--task t2i takes no --image; a picture from pictures and words is --task x2i.")

    def settings(self) -> dict[str, Any]:
        """What is written into the files, beside the prompt and its random stream."""
        sampling = self.sampling
        settings: dict[str, Any] = {
            "negative": sampling.negative,
            **asdict(sampling.vision),
            "guidance": sampling.guidance,
            "seed": sampling.seed,
        }
        if self.task:
            settings |= {"task": self.task, "image_guidance": sampling.image_guidance, "area": self.area}
        if self.interleaved or self.task:
            settings |= {"text": asdict(sampling.text), "max_tokens": self.max_tokens}
        else:
            settings |= {"ratio": self.ratio or SQUARE, "area": self.area}
        if self.seconds:
            settings |= {"seconds": self.seconds, "fps": self.fps}
        if self.video:
            settings["context_seconds"] = self.context_seconds
        if self.images:
            paths = [str(path) for path in self.images]
            settings["image"] = paths[0] if len(paths) == 1 else paths
        return settings | ({"video": str(self.video)} if self.video else {})


@dataclass(frozen=True, kw_only=True)
class AskOptions:
    """What `reelmill ask` says about a picture or a video: the answer to `question`, or a caption if it is empty."""

    model: Path
    tokenizer: str | None = None
    file: Path
    sampling: SamplingParams
    question: str = ""
    area: int = 128 * 128
    fps: float = 8.0
    context_seconds: float = 2.0
    max_tokens: int = 256

    def check(self) -> None:
        """Raise ConfigError for options that are wrong, DataError for a question that is not UTF-8."""
        self.sampling.check()
        check_text(self.question, "--question")
        if not (self.context_seconds > 0 and self.fps > 0):
            raise ConfigError(
                f"--context-seconds is {self.context_seconds:g}, --fps {self.fps:g}; both must be above 0."
            )
