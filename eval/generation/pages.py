"""Pages of text and pictures: a Markdown or HTML file, with its pictures and videos beside it."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelmill.eval.generation.media_files import write_clip
from reelmill.eval.generation.studio import Clip, GenerationProgress, PagePart, Studio
from reelmill.files import write_text
from reelmill.tokenize.documents import Thought

ENDINGS = (".md", ".html")


def write_page(parts: Sequence[PagePart], path: Path, settings: Mapping[str, Any]) -> list[Path]:
    """Write `path`, which ends in .md or .html, and STEM-1.png, STEM-2.mp4, ... beside it; returns the latter.

    The model's text is escaped, so it cannot be markup; its thoughts are quotations. `settings` go into a comment and
    into each picture.
    """
    is_html = path.suffix.lower() == ".html"
    files: list[Path] = []
    blocks: list[str] = []
    for part in parts:
        if isinstance(part, str):
            blocks += _paragraphs(part, is_html)
            continue
        if isinstance(part, Thought):
            said = "\n".join(_paragraphs(part.text, is_html))
            blocks.append(f"<blockquote>{said}</blockquote>" if is_html else "> " + said.replace("\n", "\n> "))
            continue
        file = path.with_name(f"{path.stem}-{len(files) + 1}{'.png' if part.fps is None else '.mp4'}")
        write_clip(part, file, settings)
        files.append(file)
        blocks.append(_visual(file.name, part, is_html))
    # Two hyphens could end the comment.
    comment = json.dumps(dict(settings), ensure_ascii=False).replace("--", "-\\u002d")
    body = "\n\n".join([*blocks, f"<!-- {comment} -->"])
    if is_html:
        body = f'<!doctype html>\n<meta charset="utf-8">\n<title>{html.escape(path.stem)}</title>\n{body}'
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, body + "\n")
    return files


class GrowingPages:
    """Pages of a studio that are rewritten whenever a picture of theirs is complete.

    `place`: path and settings of a page, by the number of its request.
    """

    def __init__(self, studio: Studio, place: Callable[[int], tuple[Path, Mapping[str, Any]]]) -> None:
        self._studio, self._place = studio, place
        self._parts: dict[int, list[PagePart]] = {}
        self._read: dict[int, int] = {}

    def update(self, progress: GenerationProgress) -> None:
        """Look at a token. This is for a studio's `on_token`."""
        vocab, number = self._studio.vocab, progress.last.request
        if progress.last.token != vocab.eoi:
            return
        tokens = np.array(progress.tokens[number], dtype=np.int32)
        answers = np.flatnonzero(tokens == vocab.bss)
        # A page is the answer alone, or the whole document where the layout marks none.
        start = self._read.get(number, int(answers[0]) + 1 if len(answers) else 1)
        parts = self._parts.setdefault(number, [])
        parts += self._studio.parts(tokens, start)
        self._read[number] = len(tokens)
        path, settings = self._place(number)
        write_page(parts, path, settings)


def _paragraphs(text: str, is_html: bool) -> Iterator[str]:
    for paragraph in filter(None, (line.strip() for line in text.splitlines())):
        escaped = html.escape(paragraph, quote=False)
        yield f"<p>{escaped}</p>" if is_html else escaped


def _visual(name: str, clip: Clip, is_html: bool) -> str:
    quoted = html.escape(name)
    height, width = clip.frames.shape[1:3]
    if clip.fps is not None:
        return f'<video src="{quoted}" width="{width}" height="{height}" controls loop></video>'
    return f'<img src="{quoted}" width="{width}" height="{height}" alt="">' if is_html else f"![](<{name}>)"
