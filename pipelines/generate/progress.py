"""Live progress on the terminal: tokens per second, the time left, and previews of the pictures."""

from __future__ import annotations

import sys
import time
from itertools import islice
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
from reelmill.eval.generation import GenerationProgress, PictureDraft, Studio, draft_preview, preview
from reelmill.files import write_atomically
from reelmill.terminal import say
from reelmill.tokenize.vision import Frames

TERMINAL = "terminal"
MAX_PICTURES = 8
"""Pictures side by side in a preview: those that were started last."""
INTERVAL_S = 0.5
TIME_SHARE = 0.2
"""A preview is made at most every INTERVAL_S seconds and takes at most this share of the time."""


class Speed(TextColumn):
    """Tokens per second since the start."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        """`97 tokens/s`."""
        return Text(f"{task.completed / max(task.elapsed or 0, 1e-9):,.0f} tokens/s")


class LiveProgress:
    """Shows the tokens that `update` is told of, within a `with` block, on stderr if that is a terminal.

    `preview`: "terminal" also shows the pictures there, in half-block characters; the name of a .png file means a file
    that is rewritten as they fill in; "" shows none. At the end a line says how fast it was.
    """

    def __init__(self, studio: Studio, preview: str, console: Console | None = None) -> None:
        self.studio, self.preview, self.console = studio, preview, console or Console(stderr=True)
        check_preview(preview, self.console)
        self.bars = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("tokens"),
            Speed(),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.bar = self.bars.add_task("", total=None, start=False)
        # Lines on stdout go above the bar only if stdout is the terminal too.
        self.live = Live(self.bars, console=self.console, redirect_stdout=sys.stdout.isatty(), transient=True)
        self._tokens = 0
        self._tokens_before = 0
        self._last: GenerationProgress | None = None
        self._next_preview = 0.0
        self._drafts: dict[int, PictureDraft] = {}

    def __enter__(self) -> LiveProgress:
        self.start = time.monotonic()
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()
        if kind is None and self._last is not None:
            if self.preview:
                self._show(self._last)
            seconds = time.monotonic() - self.start
            say(self.console, f"{self._tokens:,} tokens in {seconds:,.1f} s, {self._tokens / seconds:,.0f} per second")

    def update(self, progress: GenerationProgress) -> None:
        """Count a token. This is the studio's `on_token`."""
        if self._last is None:
            self.bars.start_task(self.bar)
            self._warn_of_length(progress.max_length)
        if progress.new_tokens == 1:  # a new batch follows another: the windows of a video's future
            self._tokens_before = self._tokens
        self._tokens, self._last = self._tokens_before + progress.new_tokens, progress
        self.bars.update(self.bar, completed=self._tokens, total=self._tokens_before + progress.max_new_tokens)
        self._drafts.pop(progress.last.request, None)  # its picture is complete
        if progress.last.token == self.studio.vocab.eol:
            self._show_when_due(progress)

    def update_draft(self, draft: PictureDraft) -> None:
        """Take a picture that is drawn in another order than that of its tokens. This is the studio's `on_draft`."""
        self._drafts[draft.request] = draft
        self._show_when_due(self._last)

    def _show_when_due(self, progress: GenerationProgress | None) -> None:
        start = time.monotonic()
        if self.preview and start >= self._next_preview:
            self._show(progress)
            end = time.monotonic()
            self._next_preview = end + max(INTERVAL_S, (end - start) / TIME_SHARE)

    def _warn_of_length(self, max_length: int) -> None:
        context = self.studio.context
        if context is not None and max_length > context:
            say(
                self.console,
                f"a sequence has up to {max_length:,} tokens; the model was trained on rows of {context:,} and may do "
                "badly beyond that. A smaller --area, --seconds, --context-seconds or --max-tokens stays within it.",
                head="note:",
                style="yellow",
            )

    def _show(self, progress: GenerationProgress | None) -> None:
        vocab, vision = self.studio.vocab, self.studio.vision
        tokens = dict(enumerate(progress.tokens)) if progress else {}
        previews = (
            draft_preview(vocab, vision, self._drafts[number])
            if number in self._drafts
            else preview(vocab, vision, tokens[number])
            for number in sorted({*tokens, *self._drafts}, reverse=True)
        )
        pictures = list(islice((picture for picture in previews if picture is not None), MAX_PICTURES))
        if not pictures:
            return
        sheet = side_by_side(pictures[::-1])
        if self.preview != TERMINAL:
            write_atomically(Path(self.preview), lambda temporary: Image.fromarray(sheet).save(temporary, format="PNG"))
        else:
            width, height = self.console.size
            text = half_blocks(sheet, width, height - 3)
            if self.live.is_started:
                self.live.update(Group(text, self.bars), refresh=True)
            else:
                self.console.print(text)


def check_preview(preview: str, console: Console | None = None) -> None:
    """Raise ConfigError for a value that is no kind of preview."""
    if preview == TERMINAL and not (console or Console(stderr=True)).is_terminal:
        raise ConfigError("--preview is terminal, but stderr is not one; name a .png file that is rewritten instead.")
    if preview not in ("", TERMINAL) and Path(preview).suffix.lower() != ".png":
        raise ConfigError(
            f'--preview is {preview}; give "{TERMINAL}", or a .png file that is rewritten as it fills in.'
        )


def side_by_side(pictures: list[Frames]) -> Frames:
    """Pictures [h, w, 3] beside each other, with a black line between them."""
    height = max(picture.shape[0] for picture in pictures)
    padded = [np.pad(picture, ((0, height - picture.shape[0]), (0, 4), (0, 0))) for picture in pictures]
    return np.concatenate(padded, axis=1)[:, :-4]


def half_blocks(picture: Frames, columns: int, lines: int) -> Text:
    """A picture [h, w, 3] within `columns` x `lines` characters, each an upper half block: two pixels."""
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
