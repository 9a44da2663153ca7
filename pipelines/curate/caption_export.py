"""`reelmill caption export`: caption-tuning pairs, which close Emu3's loop of captioner and captions (section 2.1)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reelmill.config import nearest, to_dict
from reelmill.curation.captions.config import CAPTION_SOURCES
from reelmill.curation.captions.frames import decode_frames
from reelmill.curation.captions.prompts import Prompts, load_prompts
from reelmill.errors import ConfigError
from reelmill.files import write_atomically
from reelmill.isolation.parent import Child, ItemFailed
from reelmill.orchestration.plan import group_by
from reelmill.orchestration.recipe import Recipe, load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries

WHOLE_CLIP_S = 1e9
"""A pair shows the whole clip, however long: its frames are not divided into parts."""

_QUERY = """
SELECT s.sample_id, s.item_id, s.kind, s.start_s, s.end_s, s.width, s.height, s.fps, s.uri, s.licence, s.source, s.url,
    s.caption, s.caption_source, c.model, c.language
FROM samples s JOIN captions c ON c.sample_id = s.sample_id AND c.caption_source = s.caption_source
    AND c.caption = s.caption AND c.problem IS NULL
WHERE s.kind <> 'text' AND list_contains($2, s.caption_source)
AND s.sample_id IN (SELECT sample_id FROM verdicts WHERE selection = $1 AND status = 'kept')
QUALIFY row_number() OVER (PARTITION BY s.sample_id ORDER BY c.created DESC) = 1
ORDER BY s.uri, s.item_id, s.start_s"""


def export_pairs(out: Path, file: Path, selection: str, sources: Sequence[str], frames: int) -> tuple[int, int]:
    """Write one JSON line per kept sample to `file` and its frames to `STEM-frames/SAMPLE_ID/K.jpg` beside it.

    Returns how many pairs were written, and how many samples could not be decoded. A line has `images` (paths relative
    to the file), `prompts` (`content`, and `motion` of a video) in the caption's language, `caption`, the same as
    `messages` of a chat, and where it all came from.
    """
    folder = RunFolder(out).require_sound()
    recipe = load_recipe(folder.root)
    for source in sources:
        if source not in (known := {*CAPTION_SOURCES, *recipe.captions.sources, *recipe.captions.custom}):
            raise ConfigError(f"unknown caption source {source!r}; {nearest(source, known)}")
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.rows(_QUERY, [selection, list(sources)])
    written = 0

    def write(temporary: Path) -> None:
        nonlocal written
        with temporary.open("w", encoding="utf-8") as stream:
            for pair in _pairs(folder, recipe, rows, file.with_name(f"{file.stem}-frames"), frames):
                stream.write(json.dumps(pair, ensure_ascii=False) + "\n")
                written += 1

    write_atomically(file, write)
    return written, len(rows) - written


def _pairs(
    folder: RunFolder, recipe: Recipe, rows: Sequence[dict[str, Any]], pictures: Path, frames: int
) -> Iterator[dict[str, Any]]:
    prompts = load_prompts(recipe.captions.prompts)
    config = replace(recipe.captions.frames, frames=frames, part_s=WHOLE_CLIP_S)
    sources = folder.sources()
    options = to_dict(recipe.score.decode)
    with Child(recipe.score.isolation) as child:
        for item_id, group in group_by(rows, "item_id"):
            try:
                decoded = decode_frames(child, sources[item_id], group, config, options)
            except ItemFailed:  # counted: fewer pairs than rows
                continue
            for row, sample in zip(group, decoded, strict=True):
                (part,) = sample.parts
                names = [_save(pictures / row["sample_id"] / f"{n}.jpg", data) for n, data in enumerate(part)]
                yield _pair(row, names, prompts.get(row["language"], prompts["en"]))


def _save(path: Path, data: bytes) -> str:
    """Write a picture; its path relative to the file of pairs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return "/".join(path.parts[-3:])


def _pair(row: dict[str, Any], images: list[str], prompts: Prompts) -> dict[str, Any]:
    questions = (
        {"content": prompts.image} if row["kind"] == "image" else {"content": prompts.content, "motion": prompts.motion}
    )
    pictures = [{"type": "image", "image": name} for name in images]
    question = [*pictures, {"type": "text", "text": prompts.prompt(row["kind"])}]
    origin = ("caption_source", "model", "language", "uri", "start_s", "end_s", "licence", "source", "url")
    return {
        "sample_id": row["sample_id"],
        "kind": row["kind"],
        "images": images,
        "prompts": questions,
        "caption": row["caption"],
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": row["caption"]}],
        **{key: row[key] for key in origin},
    }
