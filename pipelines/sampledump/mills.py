"""Things that turn: a windmill, a water wheel, a pinwheel. Each returns a painter, seconds -> picture."""

from __future__ import annotations

import numpy as np

from reelmill.pipelines.sampledump.landscapes import NOON, Light, cloud_layer, hills, sky, standing
from reelmill.pipelines.sampledump.paint import (
    Painter,
    Picture,
    blend,
    corners,
    disc,
    line,
    noise,
    polygon,
    scroll,
    tint,
    turned,
)

TAU = 2 * np.pi


def windmill(width: int, height: int, light: Light = NOON, seed: int = 5) -> Painter:
    """A white windmill whose four red-brown sails turn clockwise, while clouds drift to the right."""
    ground = standing(hills(width, height, light, seed, 0.0), width, height)
    backdrop = sky(width, height, light, (0.15, 0.2))
    weather = cloud_layer(width, height, seed + 9, -0.12, 0.6)
    hub = (0.56 * width, 0.40 * height)

    def paint(t: float) -> Picture:
        picture = ground.over(weather.over(backdrop, t), t)
        _tower(picture, hub, height)
        for sail in range(4):
            _sail(picture, hub, 0.36 * height, 1.1 * t + sail * TAU / 4)
        disc(picture, hub, 0.022 * height, (60, 40, 30))
        return picture

    return paint


def _tower(picture: Picture, hub: tuple[float, float], height: int) -> None:
    x, y = hub
    top, foot = 0.075 * height, 0.13 * height
    base = y + 0.50 * height
    polygon(picture, [(x - top, y), (x + top, y), (x + foot, base), (x - foot, base)], (232, 226, 214))
    polygon(picture, [(x, y), (x + top, y), (x + foot, base), (x + 0.3 * foot, base)], (190, 182, 172))
    cap = [(x - 1.3 * top, y), (x + 1.3 * top, y), (x + 0.4 * top, y - 1.3 * top), (x - 0.4 * top, y - 1.3 * top)]
    polygon(picture, cap, (120, 54, 40))
    polygon(picture, corners(x - 0.03 * height, base - 0.1 * height, x + 0.03 * height, base), (84, 60, 44))
    disc(picture, (x, y + 0.2 * height), 0.022 * height, (70, 84, 110))


def _sail(picture: Picture, hub: tuple[float, float], length: float, angle: float) -> None:
    cloth = [
        (0.22 * length, -0.02 * length),
        (length, -0.02 * length),
        (length, -0.24 * length),
        (0.22 * length, -0.2 * length),
    ]
    polygon(picture, turned(cloth, angle, hub), (196, 92, 62))
    for bar in np.linspace(0.3, 0.95, 5):
        ends = turned([(bar * length, 0.0), (bar * length, -0.22 * length)], angle, hub)
        line(picture, ends[0], ends[1], (120, 52, 36))
    arm = turned([(0.0, 0.0), (length, 0.0)], angle, hub)
    line(picture, arm[0], arm[1], (74, 50, 38), 2)


def waterwheel(width: int, height: int, seed: int = 100) -> Painter:
    """A wooden water wheel turns counterclockwise at a gray stone wall; blue water runs below it to the right."""
    wall = tint(noise(seed, height, width, (14, 18), 4), (86, 84, 88), (150, 146, 140), (188, 182, 170))
    joints = noise(seed + 1, height, width, (9, 7), 1)
    wall = blend(wall, np.full_like(wall, (60, 58, 60)), (np.abs(joints - 0.5) < 0.02).astype(np.float32) * 0.8)
    top = round(0.76 * height)
    stream = tint(noise(seed + 2, height - top, 2 * width, (5, 12), 4), (24, 62, 96), (60, 130, 168), (196, 226, 232))
    hub, radius = (0.5 * width, 0.47 * height), 0.38 * height

    def paint(t: float) -> Picture:
        picture = wall.copy()
        _wheel(picture, hub, radius, -0.9 * t)
        picture[top:] = scroll(stream, -0.45 * height * t, 0, (width, height - top))
        return picture

    return paint


def _wheel(picture: Picture, hub: tuple[float, float], radius: float, angle: float) -> None:
    wood, dark = (146, 96, 52), (84, 52, 28)
    beam = max(round(0.024 * radius), 1)
    for place in range(12):
        turn = angle + place * TAU / 12
        paddle = corners(0.84 * radius, -0.03 * radius, 1.12 * radius, 0.06 * radius)
        polygon(picture, turned(paddle, turn, hub), (170, 118, 66) if place % 2 else (120, 76, 40))
        if place % 2 == 0:
            spoke = turned([(0.0, 0.0), (0.94 * radius, 0.0)], turn, hub)
            line(picture, spoke[0], spoke[1], dark, 2 * beam)
            line(picture, spoke[0], spoke[1], wood, beam)
    for ring in (0.94, 0.7):
        disc(picture, hub, ring * radius, dark, 2 * beam + 1)
        disc(picture, hub, ring * radius, wood, beam + 1)
    disc(picture, hub, 0.12 * radius, dark)
    disc(picture, hub, 0.07 * radius, wood)


def pinwheel(width: int, height: int, seed: int = 220) -> Painter:
    """A pinwheel with red, yellow, green and blue blades turns counterclockwise before a pale wooden wall."""
    wall = tint(noise(seed, height, width, (4, 40), 5), (176, 148, 112), (226, 202, 166))
    hub, radius = (0.5 * width, 0.42 * height), 0.40 * min(width, height)
    blades = ((214, 48, 44), (240, 196, 50), (60, 160, 80), (50, 100, 206))

    def paint(t: float) -> Picture:
        picture = wall.copy()
        line(picture, hub, (hub[0], float(height)), (120, 84, 56), 5)
        for place in range(8):
            colour = blades[place % 4]
            turn = -1.0 * t + place * TAU / 8
            blade = [(0.0, 0.0), (0.72 * radius, -0.42 * radius), (radius, 0.0)]
            polygon(picture, turned(blade, turn, hub), colour)
            fold = [(0.0, 0.0), (0.55 * radius, 0.0), (0.72 * radius, -0.42 * radius)]
            polygon(picture, turned(fold, turn, hub), (colour[0] * 7 // 10, colour[1] * 7 // 10, colour[2] * 7 // 10))
        disc(picture, hub, 0.09 * radius, (250, 246, 236))
        return picture

    return paint
