"""`reelmill explain --png`: a sample's frames with its facts, as one picture."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reelmill.files import write_atomically
from reelmill.isolation.parent import ItemFailed
from reelmill.orchestration.recipe import load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.pipelines.report.charts import number
from reelmill.pipelines.report.explain import lines
from reelmill.pipelines.report.pictures import Pictures

WIDTH, MARGIN, GAP = 1200, 28, 8
FRAMES = 8
COLUMNS = 4
FRAME_PIXELS = 280 * 210
PAPER, INK, SOFT = (251, 250, 247), (34, 37, 42), (98, 103, 111)
_PLAIN = str.maketrans({"–": "-", "×": "x", "“": '"', "”": '"', "…": "..."})
"""What Pillow's own font lacks."""
OUTCOMES = {"passes": (47, 125, 104), "fails": (196, 87, 58), "waits": (150, 120, 30)}


def draw(out: Path, found: Mapping[str, Any], target: Path) -> None:
    """Write the picture of what `explain` found; the sample is decoded anew in the untrusted child."""
    folder = RunFolder(out).require()
    recipe = load_recipe(folder.root)
    facts = found["facts"]
    with Pictures(folder, recipe.score) as pictures:
        seen = pictures.frames_of([facts], FRAMES, FRAME_PIXELS).get(facts["sample_id"])
    picture = _sheet(found, _thumbs(seen))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)

    def write(temporary: Path) -> None:
        temporary.write_bytes(buffer.getvalue())

    write_atomically(target, write)


def _thumbs(seen: Any) -> list[Image.Image] | str:
    """Pictures, or words where there are none."""
    if isinstance(seen, np.ndarray):
        return [Image.fromarray(frame) for frame in seen]
    return f"No picture: {seen.reason}" if isinstance(seen, ItemFailed) else str(seen or "No picture.")


def _sheet(found: Mapping[str, Any], thumbs: list[Image.Image] | str) -> Image.Image:
    column = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) // COLUMNS
    thumbs = thumbs if isinstance(thumbs, str) else [_fitted(thumb, column) for thumb in thumbs]
    rows = 0 if isinstance(thumbs, str) else -(-len(thumbs) // COLUMNS)
    tall = 0 if isinstance(thumbs, str) else max(thumb.height for thumb in thumbs)
    caption = [*_wrapped(" ".join(found["origin"]["caption"].split()) if found["origin"]["caption"] else "", 100)]
    facts = [part for line in lines(found) for part in _wrapped(line, 130)]
    excerpt = _wrapped(thumbs, 130)[:14] if isinstance(thumbs, str) else []
    height = (
        100 + 28 * len(caption) + 22 * (len(facts) + len(excerpt) + len(found["rules"]) + 2) + rows * (tall + GAP) + 40
    )
    sheet = Image.new("RGB", (WIDTH, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    status = str(found["verdict"]["status"])
    y = MARGIN
    pen.text((MARGIN, y), f"{found['facts']['sample_id']}  {status}", INK, ImageFont.load_default(24))
    y += 42
    for line in caption:
        pen.text((MARGIN, y), line, INK, ImageFont.load_default(20))
        y += 28
    for line in [*facts, *excerpt]:
        pen.text((MARGIN, y), line, SOFT, ImageFont.load_default(15))
        y += 22
    y += 10
    for n, thumb in enumerate([] if isinstance(thumbs, str) else thumbs):
        place = (MARGIN + n % COLUMNS * (column + GAP), y + n // COLUMNS * (tall + GAP))
        sheet.paste(thumb, place)
    y += rows * (tall + GAP) + 12
    _rules(pen, y, found["rules"])
    return sheet


def _rules(pen: ImageDraw.ImageDraw, y: int, rules: list[dict[str, Any]]) -> None:
    font = ImageFont.load_default(15)
    places = (MARGIN, 220, 360, 480, 600, 720)
    for x, head in zip(places, ("rule", "outcome", "value", "min", "max", "margin"), strict=True):
        pen.text((x, y), head, SOFT, font)
    for n, rule in enumerate(rules):
        line = y + 22 * (n + 1)
        pen.text((places[0], line), str(rule["rule"]), INK, font)
        pen.text((places[1], line), str(rule["outcome"]), OUTCOMES.get(rule["outcome"], SOFT), font)
        for x, key in zip(places[2:], ("value", "min", "max", "margin"), strict=True):
            pen.text((x, line), "" if rule[key] is None else number(rule[key]), INK, font)


def _fitted(thumb: Image.Image, column: int) -> Image.Image:
    scale = min(column / thumb.width, 240 / thumb.height)
    return thumb.resize((max(round(thumb.width * scale), 1), max(round(thumb.height * scale), 1)))


def _wrapped(text: str, width: int) -> list[str]:
    text = text.translate(_PLAIN)
    return textwrap.wrap(text, width, max_lines=6, placeholder=" ...") if text else []
