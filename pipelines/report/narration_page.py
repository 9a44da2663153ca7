"""`reelmill explain --page`: a narrated sample as a page: pictures and text in order of time."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reelmill.curation.clip_messages import Decoded
from reelmill.errors import DataError
from reelmill.files import write_text
from reelmill.isolation.parent import ItemFailed
from reelmill.orchestration.recipe import load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.pipelines.report.explain import lines
from reelmill.pipelines.report.pictures import Pictures, small, webp

PIXELS = 320 * 240
PICTURE_BYTES = 30_000
_STYLE = """body{font:17px/1.5 Georgia,serif;max-width:44rem;margin:2rem auto;padding:0 1rem}
body{background:#fbfaf7;color:#22252a}h1{font-size:1.3rem}figure{margin:1rem 0}img{max-width:100%;border-radius:3px}
time,small{color:#62676f;font:13px sans-serif;margin-right:.6em}
.dropped img{opacity:.35}.dropped{color:#9a4a30}"""


def write_page(out: Path, found: Mapping[str, Any], target: Path) -> None:
    """Write the page of what `explain` found. DataError for a sample that tells nothing."""
    if not found["narration"]:
        raise DataError("this sample has neither key frames nor words; a page is for recipes such as emu3_5")
    folder = RunFolder(out).require()
    facts, verdict = found["facts"], found["verdict"]
    pictures = _pictures(folder, found)
    body = "\n".join(_entry(row, pictures) for row in found["narration"])
    told = "<br>".join(html.escape(line) for line in lines(found))
    title = html.escape(f"{facts['uri']}: {verdict['status'] or 'undecided'}")
    write_text(
        target,
        f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>\n'
        f"<body><h1>{title}</h1><p><small>{told}</small></p>\n{body}\n</body></html>\n",
    )


def _pictures(folder: RunFolder, found: Mapping[str, Any]) -> dict[float, str]:
    """Second to data URI of each key frame, decoded anew in the untrusted child; none where that fails."""
    facts, seconds = found["facts"], [row["at_s"] for row in found["narration"] if row["what"] == "picture"]
    if not seconds:
        return {}
    width, height = small(facts["width"], facts["height"], PIXELS)
    size = {"fps": 1.0, "frames": 1, "width": width, "height": height}
    clips = [{"key": str(number), "start_s": at_s, **size} for number, at_s in enumerate(seconds)]

    def keep(decoded: Iterator[Decoded]) -> dict[float, str]:
        return {seconds[int(clip["key"])]: webp(frames[0], PICTURE_BYTES) for clip, frames in decoded}

    with Pictures(folder, load_recipe(folder.root).score) as pictures:
        try:
            return pictures.decode("video", facts["item_id"], clips, keep)
        except ItemFailed:
            return {}


def _entry(row: Mapping[str, Any], pictures: Mapping[float, str]) -> str:
    when = f"<time>{row['at_s']:.1f} s</time>"
    why = f"<small>{html.escape(row['dropped'])}</small>" if row["dropped"] else ""
    kind = ' class="dropped"' if row["dropped"] else ""
    if row["what"] == "picture":
        picture = pictures.get(row["at_s"])
        shown = f'<img src="{picture}" alt="key frame">' if picture else "(no picture)"
        return f"<figure{kind}>{when}{why}<br>{shown}</figure>"
    text = html.escape(row["text"] or "")
    return f"<p{kind}>{when}{why}{f'<del>{text}</del>' if row['dropped'] else text}</p>"
