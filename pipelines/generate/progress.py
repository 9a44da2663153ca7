"""What a person sees while a model draws: tokens a second, the time left, and the pictures as their rows come."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.style import Style
from rich.text import Text

from reelmill.errors import ConfigError
from reelmill.eval.generation import GenerationProgress, Studio, preview
from reelmill.files import write_atomically
from reelmill.terminal import say
from reelmill.tokenize.vision import Frames

TERMINAL = "terminal"
SHOWN = 8
"""Pictures side by side in a preview: those that were begun last."""
PAUSE_S = 0.5
SHARE = 0.2
"""A preview is made this often at most, and takes at most this share of the time."""


class Speed(TextColumn):
    """Tokens a second since the beginning."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        """`97 tokens/s`."""
        return Text(f"{task.completed / max(task.elapsed or 0, 1e-9):,.0f} tokens/s")


class Show:
    """While it is entered, the studio's tokens are shown on the terminal (stderr), where there is one.

    `preview`: "terminal" also shows the pictures there, in half characters; a name that ends in .png is a file which is
    written anew as they fill in; "" shows none. At the end a line says how fast it was.
    """

    def __init__(self, studio: Studio, preview: str, console: Console | None = None) -> None:
        self.studio, self.preview, self.console = studio, preview, console or Console(stderr=True)
        check_preview(preview, self.console)
        self.progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("tokens"),
            Speed(),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.bar = self.progress.add_task("", total=None, start=False)
        # Lines on stdout go above the bar only where both are the terminal.
        self.live = Live(self.progress, console=self.console, redirect_stdout=sys.stdout.isatty(), transient=True)
        self._drawn = 0
        self._before = 0
        self._last: GenerationProgress | None = None
        self._next_at = 0.0

    def __enter__(self) -> Show:
        self.began = time.monotonic()
        self.studio.watch = self.see
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()
        self.studio.watch = None
        if kind is None and self._drawn:
            if self._last is not None and self.preview:
                self._show(self._last)
            seconds = time.monotonic() - self.began
            say(self.console, f"{self._drawn:,} tokens in {seconds:,.1f} s, {self._drawn / seconds:,.0f} a second")

    def see(self, progress: GenerationProgress) -> None:
        """Note a token."""
        if self._drawn == 0:
            self.progress.start_task(self.bar)
            self._warn_of_length(progress.longest)
        if progress.count == 1:  # one progress follows another: the windows of a video's future
            self._before = self._drawn
        self._drawn, self._last = self._before + progress.count, progress
        self.progress.update(self.bar, completed=self._drawn, total=self._before + progress.most)
        if self.preview and progress.last.token == self.studio.vocab.eol and time.monotonic() >= self._next_at:
            began = time.monotonic()
            self._show(progress)
            ended = time.monotonic()
            self._next_at = ended + max(PAUSE_S, (ended - began) / SHARE)

    def _warn_of_length(self, longest: int) -> None:
        trained = self.studio.context
        if trained is not None and longest > trained:
            say(
                self.console,
                f"a sequence has up to {longest:,} tokens; the model was trained on rows of {trained:,} and may draw "
                "badly beyond. A smaller --area, --seconds, --context or --most keeps it within.",
                head="note:",
                style="yellow",
            )

    def _show(self, progress: GenerationProgress) -> None:
        found = (preview(self.studio.vocab, self.studio.vision, tokens) for tokens in reversed(progress.tokens))
        pictures = [picture for picture in found if picture is not None][:SHOWN]
        if not pictures:
            return
        sheet = side_by_side(pictures[::-1])
        if self.preview != TERMINAL:
            write_atomically(Path(self.preview), lambda temporary: Image.fromarray(sheet).save(temporary, format="PNG"))
        else:
            width, height = self.console.size
            text = half_blocks(sheet, width, height - 3)
            if self.live.is_started:
                self.live.update(Group(text, self.progress), refresh=True)
            else:
                self.console.print(text)


def check_preview(preview: str, console: Console | None = None) -> None:
    """Raise ConfigError for what is no preview."""
    if preview == TERMINAL and not (console or Console(stderr=True)).is_terminal:
        raise ConfigError("--preview terminal, but stderr is none; name a .png file that is written anew as it fills.")
    if preview not in ("", TERMINAL) and Path(preview).suffix.lower() != ".png":
        raise ConfigError(
            f'--preview is {preview}; it is "{TERMINAL}", or a .png file that is written anew as it fills.'
        )


def side_by_side(pictures: list[Frames]) -> Frames:
    """Pictures [h, w, 3] beside each other, a black line between them."""
    height = max(picture.shape[0] for picture in pictures)
    padded = [np.pad(picture, ((0, height - picture.shape[0]), (0, 4), (0, 0))) for picture in pictures]
    return np.concatenate(padded, axis=1)[:, :-4]


def half_blocks(picture: Frames, columns: int, lines: int) -> Text:
    """A picture [h, w, 3] in so many characters at most: each is an upper half of one colour on another."""
    height, width = picture.shape[:2]
    scale = min(1.0, columns / width, 2 * max(lines, 1) / height)
    size = (max(1, round(width * scale)), max(2, round(height * scale / 2) * 2))
    pixels = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    text = Text(no_wrap=True, end="")
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append("▀", Style(color="rgb({},{},{})".format(*above), bgcolor="rgb({},{},{})".format(*below)))
        text.append("\n")
    return text
