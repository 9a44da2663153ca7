"""Pages of text and pictures: a Markdown or HTML file, with its pictures and videos beside it."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reelmill.eval.generation.media_files import write_clip
from reelmill.eval.generation.studio import Clip
from reelmill.files import write_text

ENDINGS = (".md", ".html")


def write_page(parts: Sequence[str | Clip], path: Path, settings: Mapping[str, Any]) -> list[Path]:
    """Write `path`, which ends in .md or .html, and STEM-1.png, STEM-2.mp4, ... beside it; returns the latter.

    The model's text is escaped, so it cannot be markup. `settings` go into a comment and into each picture.
    """
    is_html = path.suffix.lower() == ".html"
    files: list[Path] = []
    blocks: list[str] = []
    for part in parts:
        if isinstance(part, str):
            blocks += _paragraphs(part, is_html)
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
