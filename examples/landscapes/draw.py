"""A small world of landscapes, for `make demo`: python draw.py FOLDER [--pictures 768]

Writes FOLDER/pictures, a dump for `reelmill curate`: 00000.png, its caption 00000.txt, and so on. A picture shows two
of three things beside each other, in one of four lands and one of three lights. The scenes of `NEW` are not among them,
their captions are in FOLDER/new.txt: a model that draws these puts together what it has seen apart.
"""

import argparse
import itertools
import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

THINGS = ("windmill", "pine tree", "red house")
LANDS = ("on green hills", "under snowy mountains", "in the desert", "by the sea")
LIGHTS = ("by day", "at sunset", "at night")
SCENES = list(itertools.product(THINGS, THINGS, LANDS, LIGHTS))
NEW = random.Random(3).sample(SCENES, 12)
"""Never drawn, though each of their things is, on its side and in their land and light, beside another one."""
PHASES = (0.0, 2.0)
SHIFTS = (-0.03, 0.03)
SIDE = 128
FINE = 3
"""Pictures are drawn so many times as large, which smooths their edges."""

SKIES = {  # top, horizon, sun or moon
    "by day": ((64, 132, 214), (204, 230, 246), (255, 246, 190)),
    "at sunset": ((84, 52, 120), (255, 158, 76), (255, 236, 150)),
    "at night": ((8, 12, 38), (44, 62, 118), (244, 244, 226)),
}
ORBS = {"by day": (0.5, 0.14), "at sunset": (0.5, 0.52), "at night": (0.5, 0.14)}
SHADES = {"by day": (1.0, 1.0, 1.0), "at sunset": (0.92, 0.66, 0.64), "at night": (0.34, 0.4, 0.6)}


def caption(left, right, land, light):
    """The words of a scene: "a windmill and a red house by the sea at sunset"."""
    return f"a {left} and a {right} {land} {light}"


class Canvas:
    """A picture of 1 x 1, from the upper left, painted in the colors of a light."""

    def __init__(self, light):
        top, horizon, self.orb = SKIES[light]
        self.light, self.side = light, SIDE * FINE
        self.image = Image.new("RGB", (self.side, self.side))
        self.draw = ImageDraw.Draw(self.image)
        for row in range(self.side):
            share = min(row / self.side / 0.62, 1.0)
            color = tuple(round(a + (b - a) * share) for a, b in zip(top, horizon, strict=True))
            self.draw.line([(0, row), (self.side, row)], fill=color)

    def shape(self, points, color, lit=1.0):
        """Fill a polygon. `lit`: how much more light than the land it has."""
        shaded = tuple(round(min(c * s * lit, 255)) for c, s in zip(color, SHADES[self.light], strict=True))
        self.draw.polygon([(x * self.side, y * self.side) for x, y in points], fill=shaded)

    def box(self, left, top, right, bottom, color, lit=1.0):
        """Fill an upright rectangle."""
        self.shape([(left, top), (right, top), (right, bottom), (left, bottom)], color, lit)

    def ground(self, height, swell, waves, phase, color):
        """Fill everything below a wavy line."""
        line = [(place / 60, height + swell * math.sin(waves * place / 60 + phase)) for place in range(61)]
        self.shape([(0, 1), *line, (1, 1)], color)

    def disc(self, x, y, radius):
        """The sun or the moon."""
        corners = [
            (x - radius) * self.side,
            (y - radius) * self.side,
            (x + radius) * self.side,
            (y + radius) * self.side,
        ]
        self.draw.ellipse(corners, fill=self.orb)

    def finished(self):
        """The picture in its own size."""
        return self.image.resize((SIDE, SIDE), Image.Resampling.BOX)


def paint(left, right, land, light, phase, *shifts):
    """A picture, 128 x 128. `phase`: of the waves of the land; `shifts`: of the two things, to the right."""
    canvas = Canvas(light)
    canvas.disc(*ORBS[light], 0.085)
    paint_land(canvas, land, phase)
    for thing, x, shift in zip((left, right), (0.25, 0.75), shifts, strict=True):
        paint_thing(canvas, thing, x + shift, 0.92)
    return canvas.finished()


def paint_land(canvas, land, phase):
    """What lies below the sky."""
    if land == "on green hills":
        canvas.ground(0.62, 0.04, 7, phase, (118, 168, 96))
        canvas.ground(0.78, 0.02, 5, phase, (70, 130, 52))
    elif land == "in the desert":
        canvas.ground(0.64, 0.03, 8, phase, (236, 186, 112))
        canvas.ground(0.78, 0.03, 6, phase, (212, 144, 70))
    elif land == "by the sea":
        canvas.box(0, 0.62, 1, 1, (44, 112, 168))
        canvas.ground(0.84, 0.015, 4, phase, (226, 204, 152))
    else:
        for x, top in ((0.0, 0.32), (0.5, 0.26), (1.0, 0.32)):
            foot, half = 0.78, 0.36
            canvas.shape([(x - half, foot), (x, top), (x + half, foot)], (104, 118, 148))
            white, snow = 0.4 * half, top + 0.4 * (foot - top)
            canvas.shape([(x - white, snow), (x, top), (x + white, snow)], (248, 250, 255), lit=1.3)
        canvas.ground(0.78, 0.01, 5, phase, (228, 236, 246))


def paint_thing(canvas, thing, x, foot):
    """What stands on the ground at `x`, its foot at `foot`."""
    if thing == "windmill":
        hub = foot - 0.34
        canvas.shape([(x - 0.08, foot), (x - 0.045, hub), (x + 0.045, hub), (x + 0.08, foot)], (250, 244, 232), lit=1.3)
        for angle in (math.pi / 4 + quarter * math.pi / 2 for quarter in range(4)):
            along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
            corners = [(0.0, -0.022), (0.23, -0.034), (0.23, 0.034), (0.0, 0.022)]
            sail = [(x + a * along[0] + b * across[0], hub + a * along[1] + b * across[1]) for a, b in corners]
            canvas.shape(sail, (110, 66, 44), lit=1.2)
    elif thing == "pine tree":
        canvas.box(x - 0.03, foot - 0.1, x + 0.03, foot, (110, 70, 40))
        for step in range(3):
            base, half = foot - 0.08 - 0.13 * step, 0.17 - 0.035 * step
            canvas.shape([(x - half, base), (x, base - 0.24), (x + half, base)], (24, 104, 52), lit=1.1)
    else:
        canvas.box(x - 0.15, foot - 0.22, x + 0.15, foot, (214, 46, 40), lit=1.3)
        canvas.shape([(x - 0.2, foot - 0.22), (x, foot - 0.4), (x + 0.2, foot - 0.22)], (96, 52, 42), lit=1.2)
        door = (70, 40, 30) if canvas.light == "by day" else (255, 222, 120)
        canvas.box(x - 0.05, foot - 0.15, x + 0.05, foot, door, lit=3.0 if canvas.light == "at night" else 1.6)


def main():
    """Write the dump."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=768)
    args = parser.parse_args()
    pictures = args.folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    seen = [scene for scene in SCENES if scene not in NEW]
    views = list(itertools.product(seen, PHASES, SHIFTS, SHIFTS))
    random.Random(0).shuffle(views)
    for number, (scene, *places) in enumerate(views[: args.pictures]):
        paint(*scene, *places).save(pictures / f"{number:05}.png")
        (pictures / f"{number:05}.txt").write_text(caption(*scene), encoding="utf-8")
    (args.folder / "new.txt").write_text("".join(caption(*scene) + "\n" for scene in NEW), encoding="utf-8")


if __name__ == "__main__":
    main()
