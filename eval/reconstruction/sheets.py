"""Side-by-side pictures: originals beside or above their reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Cell = tuple[str, npt.NDArray[np.uint8]]
"""A label of up to two lines and a picture [H, W, 3]."""

_MIN_WIDTH = 256  # narrower pictures are enlarged to make room for labels
_GAP, _LINE = 8, 16
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def save_sheet(rows: Sequence[Sequence[Cell]], path: Path) -> None:
    """Write a PNG of rows of cells, all of the same size."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = rows[0][0][1].shape[:2]
    factor = max(1, _MIN_WIDTH // width)
    height, width = height * factor, width * factor
    head = 2 * _LINE + 4
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (_GAP + columns * (width + _GAP), len(rows) * (head + height + _GAP)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for y, row in enumerate(rows):
        for x, (label, picture) in enumerate(row):
            left, top = _GAP + x * (width + _GAP), y * (head + height + _GAP)
            pen.multiline_text((left, top + 2), label, fill=_INK, font=font, spacing=2)
            shown = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(shown, (left, top + head))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
