"""Frames with a line of text each, of many scripts, fonts, sizes, colors, places and contrasts: what is asked of a text
detector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

LATIN = "DejaVuS*.ttf NotoSans-*.ttf NotoSerif-*.ttf Roboto*.ttf"
SCRIPTS = {
    "Latin": (
        LATIN,
        "the quick brown fox jumps over|News at noon, rain in Spain|and now for something else|BREAKING NEWS|"
        "Subscribe!|© 2024 film.example.org|12:45|STOP|Ok|10% OFF today|Chapter one|www.example.com|"
        "Directed by M. Poll|LIVE",
    ),
    "Cyrillic": (LATIN, "съешь ещё этих мягких булок|Новости дня|ВЫХОД"),
    "Greek": (LATIN, "η γρήγορη αλεπού πηδά|ΕΞΟΔΟΣ"),
    "Arabic": ("NotoNaskhArabic-*.ttf NotoKufiArabic-*.ttf NotoSansArabic-*.ttf", "نص حكيم له سر قاطع|أخبار اليوم"),
    "Hebrew": ("NotoSansHebrew-*.ttf", "דג סקרן שט בים מאוכזב|חדשות"),
    "Devanagari": ("NotoSansDevanagari-*.ttf", "आज का समाचार यहाँ देखें|हिन्दी भाषा"),
    "Thai": ("NotoSansThai-*.ttf", "ข่าววันนี้และพรุ่งนี้|ประเทศไทย"),
    "CJK": (
        "wqy-zenhei.ttc NotoSansCJK-*.ttc",
        "今天的新闻在这里播出|天地玄黄宇宙洪荒|東京の天気は晴れです|오늘의 뉴스|中文字幕",
    ),
}
SMALLEST, LARGEST = 8, 56


@dataclass(frozen=True)
class Caption:
    """A frame, uint8 [H, W, 3] RGB, and its text's font size in pixels and script."""

    image: np.ndarray
    size: int
    script: str


@cache
def fonts(folder: Path) -> dict[str, list[Path]]:
    """The font files of each script that lie under a folder; scripts without any are left out."""
    there = {
        script: sorted(path for pattern in patterns.split() for path in folder.rglob(pattern))
        for script, (patterns, _) in SCRIPTS.items()
    }
    found = {script: paths for script, paths in there.items() if paths}
    if not found:
        raise SystemExit(f"{folder} has no font of any of {', '.join(SCRIPTS)}; name another folder with --fonts")
    return found


@cache
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)


def captioned(background: np.ndarray, seed: int, folder: Path) -> Caption:
    """The background with a line of text by chance: half Latin, sizes evenly in their logarithm, a fifth turned, some
    with an outline or a dark plate, opaque or not, sharp, blurred or compressed."""
    rng = np.random.default_rng(seed)
    height, width = background.shape[:2]
    there = fonts(folder)
    while True:
        script = "Latin" if rng.random() < 0.5 and "Latin" in there else str(rng.choice(list(there)))
        size = round(float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))))
        text = str(rng.choice(SCRIPTS[script][1].split("|")))
        font = _font(there[script][rng.integers(len(there[script]))], size)
        angle = 0.0 if rng.random() < 0.8 else float(rng.choice([90, -90, rng.uniform(-40, 40)]))
        stroke = int(rng.choice([0, 0, 1, 2])) if size >= 12 else int(rng.choice([0, 1]))
        inner, outer = (_mask(text, font, angle, width_) for width_ in (0, stroke))
        if inner.shape[0] < height - 8 and inner.shape[1] < width - 8 and inner.any():
            break
    top, left = (int(rng.integers(0, full - own)) for full, own in zip((height, width), inner.shape, strict=True))
    place = slice(top, top + inner.shape[0]), slice(left, left + inner.shape[1])
    image = background.astype(np.float32)
    if rng.random() < 0.12:
        image[place] *= 0.35
    colors = [(255, 255, 255), (0, 0, 0), (255, 255, 0), rng.integers(0, 256, 3), rng.integers(0, 256, 3)]
    color = np.array(colors[rng.integers(len(colors))], np.float32)
    opacity = float(rng.choice([1, 1, 1, 0.7, 0.4]))
    for mask, paint in ((outer, 255 - color if stroke else color), (inner, color)):
        share = mask[..., None] * opacity
        image[place] = image[place] * (1 - share) + paint * share
    return Caption(_worn(np.clip(image, 0, 255).astype(np.uint8), rng), size, script)


def _mask(text: str, font: ImageFont.FreeTypeFont, angle: float, stroke: int) -> np.ndarray:
    """How much of each pixel the text covers, 0 to 1, with room for an outline of 2 pixels around it."""
    left, top, right, bottom = font.getbbox(text)
    canvas = Image.new("L", (round(right - left) + 8, round(bottom - top) + 8))
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), text, font=font, fill=255, stroke_width=stroke)
    turned = canvas.rotate(angle, resample=Image.Resampling.BILINEAR, expand=True)
    return np.asarray(turned, np.float32) / 255


def _worn(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    chance = rng.random()
    if chance < 0.15:
        return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 1.0)))
    if chance < 0.45:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 90))]
        return cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    return image
