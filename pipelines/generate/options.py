"""The options of `reelmill generate` and `reelmill ask`, checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reelmill.errors import ConfigError
from reelmill.eval.generation import SamplingParams
from reelmill.eval.generation.pages import ENDINGS as PAGE_ENDINGS
from reelmill.eval.generation.window_sampler import window_of
from reelmill.pipelines.generate.progress import check_preview
from reelmill.pipelines.generate.prompts import check_text
from reelmill.tokenize.vision.tokenizer import MAX_PIXELS


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """What `reelmill generate` makes for each prompt: a picture, or a video if `seconds` is not 0, or with
    `interleaved` a page of text and pictures. `reelmill generate --help` explains each option."""

    model: Path
    tokenizer: str | None = None
    prompts: Sequence[str]
    out: Path
    sampling: SamplingParams
    ratio: str = "1:1"
    area: int = 128 * 128
    seconds: float = 0.0
    fps: float = 8.0
    image: Path | None = None
    video: Path | None = None
    context_seconds: float = 2.0
    interleaved: bool = False
    max_tokens: int = 4096
    preview: str = ""
    rows: int = 16
    compile: bool = False
    decode: str = "plain"

    @property
    def endings(self) -> tuple[str, ...]:
        """The possible endings of the output files. The first one is the default."""
        if self.interleaved:
            return PAGE_ENDINGS
        return (".mp4",) if self.seconds else (".png",)

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
        window_of(self.decode)
        if not self.prompts:
            raise ConfigError('there is no prompt; give --prompt or --prompts (--prompt "" to generate without one).')
        for number, prompt in enumerate(self.prompts, 1):
            check_text(prompt, f"prompt {number}")
        check_text(self.sampling.negative, "--negative")
        if self.area > MAX_PIXELS:
            raise ConfigError(f"--area is {self.area:,} pixels; the maximum is {MAX_PIXELS:,}.")
        if self.image and self.video:
            raise ConfigError("--image and --video are both given; a video begins with one of them.")
        if self.interleaved and (self.seconds or self.video):
            raise ConfigError("--interleaved takes --prompt and --image alone; the model chooses what it generates.")
        if (self.image or self.video) and not (self.seconds > 0 or self.interleaved):
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

    def settings(self) -> dict[str, Any]:
        """What is written into the files, beside the prompt and its random stream."""
        sampling = self.sampling
        settings: dict[str, Any] = {
            "negative": sampling.negative,
            **asdict(sampling.vision),
            "guidance": sampling.guidance,
            "seed": sampling.seed,
            "decode": self.decode,
        }
        if self.interleaved:
            settings |= {"text": asdict(sampling.text), "max_tokens": self.max_tokens}
        else:
            settings |= {"ratio": self.ratio, "area": self.area}
        if self.seconds:
            settings |= {"seconds": self.seconds, "fps": self.fps}
        if self.video:
            settings["context_seconds"] = self.context_seconds
        return settings | {name: str(path) for name, path in (("image", self.image), ("video", self.video)) if path}


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
