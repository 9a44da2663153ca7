"""Scenes with things that move: balls, fish, a train, a balloon, snow. Each returns a painter, seconds -> picture."""

from __future__ import annotations

import numpy as np

from reelmill.pipelines.sampledump.landscapes import AUTUMN, DAWN, Light, cloud_layer, hills, sky, standing, valley
from reelmill.pipelines.sampledump.paint import (
    Colour,
    Painter,
    Picture,
    blend,
    corners,
    coverage,
    disc,
    gradient,
    line,
    noise,
    oval,
    polygon,
    scroll_field,
    sphere,
    tint,
    turned,
)


def balls(width: int, height: int, seed: int = 120) -> Painter:
    """A red, a blue and a yellow ball bounce over a green carpet."""
    carpet = tint(noise(seed, height, width, (12, 16), 5), (26, 70, 44), (70, 130, 76), (120, 170, 100))
    unit = min(width, height)
    movers: tuple[tuple[Colour, float, float, float, float, float], ...] = (
        ((206, 40, 36), 0.17, 0.15, 0.62, 0.20, 0.51),
        ((36, 84, 206), 0.14, 0.60, -0.55, 0.75, 0.43),
        ((232, 190, 36), 0.12, 0.80, 0.71, 0.40, -0.62),
    )

    def paint(t: float) -> Picture:
        picture = carpet.copy()
        for colour, size, x0, vx, y0, vy in movers:
            radius = size * unit
            x = radius + _bounce(x0 * width + vx * unit * t, width - 2 * radius)
            y = radius + _bounce(y0 * height + vy * unit * t, height - 2 * radius)
            shadow = picture.copy()
            oval(shadow, (x + 0.25 * radius, y + 0.35 * radius), (radius, radius), (14, 34, 22))
            picture = blend(picture, shadow, np.full(picture.shape[:2], 0.5, np.float32))
            sphere(picture, (x, y), radius, colour)
        return picture

    return paint


def _bounce(place: float, span: float) -> float:
    """A place on an endless line folded into [0, span]."""
    folded = place % (2 * span)
    return folded if folded <= span else 2 * span - folded


def aquarium(width: int, height: int, seed: int = 140) -> Painter:
    """Three orange and two yellow fish swim to the left through blue water; bubbles rise."""
    water = gradient(height, width, (40, 150, 190), (16, 90, 150), (8, 44, 96))
    caustics = noise(seed, height, width, (6, 8), 2)
    sand = round(0.88 * height)
    water[sand:] = tint(noise(seed + 1, height - sand, width, (4, 30), 3), (150, 120, 80), (226, 204, 150))
    rng = np.random.default_rng(seed)
    shoal = [
        (rng.uniform(0, 1.2), 0.14 + 0.15 * i, rng.uniform(0.16, 0.26), rng.uniform(0.05, 0.075)) for i in range(5)
    ]
    beads = [
        (rng.uniform(0.05, 0.95), rng.uniform(0, 1), rng.uniform(0.2, 0.35), rng.uniform(0.008, 0.02))
        for _ in range(14)
    ]
    bright = np.full_like(water, (170, 236, 240))

    def paint(t: float) -> Picture:
        wobble = scroll_field(caustics, 10 * np.sin(0.9 * t), 0.06 * height * t, (width, height))
        light = (
            np.clip(0.5 - np.abs(wobble - 0.5) * 5, 0, 1) * np.linspace(0.8, 0.15, height, dtype=np.float32)[:, None]
        )
        picture = blend(water, bright, light.astype(np.float32))
        for x0, y0, speed, size in shoal:
            x = ((x0 - speed * t) % 1.3 - 0.15) * width
            y = (y0 + 0.015 * np.sin(3 * t + 9 * x0)) * height
            colour = (240, 130, 30) if y0 < 0.5 else (244, 206, 50)
            _fish(picture, x, y, size * width, colour, 0.35 * np.sin(9 * t + 20 * x0))
        for x0, y0, speed, size in beads:
            y = (1.05 - (y0 + speed * t) % 1.1) * height
            disc(picture, (x0 * width + 3 * np.sin(2 * t + 30 * x0), y), size * height, (190, 236, 246), 1)
        return picture

    return paint


def _fish(picture: Picture, x: float, y: float, size: float, colour: Colour, wag: float) -> None:
    dark = (colour[0] * 3 // 4, colour[1] * 3 // 5, colour[2] // 2)
    tail = [
        (x + 0.7 * size, y),
        (x + 1.35 * size, y - (0.4 - 0.5 * wag) * size),
        (x + 1.35 * size, y + (0.4 + 0.5 * wag) * size),
    ]
    polygon(picture, tail, dark)
    polygon(picture, [(x - 0.1 * size, y - 0.35 * size), (x + 0.5 * size, y - 0.62 * size), (x + 0.4 * size, y)], dark)
    oval(picture, (x, y), (size, 0.45 * size), colour)
    oval(picture, (x + 0.1 * size, y + 0.14 * size), (0.7 * size, 0.22 * size), (255, 226, 170))
    disc(picture, (x - 0.6 * size, y - 0.1 * size), 0.13 * size, (255, 255, 255))
    disc(picture, (x - 0.63 * size, y - 0.1 * size), 0.07 * size, (10, 10, 20))


def train(width: int, height: int, light: Light = AUTUMN, seed: int = 160) -> Painter:
    """A red train with three wagons crosses a stone bridge to the right; puffs of white steam trail behind."""
    backdrop = valley(width, height, light, seed, 0.0)(0.0).copy()
    _bridge(backdrop, width, height)
    deck = 0.70 * height
    unit = height / 10

    def paint(t: float) -> Picture:
        picture = backdrop.copy()
        x = (-0.10 + 0.19 * t) * width
        for puff in range(7):
            age = (t * 1.6 + puff) % 7
            centre = (x + 1.6 * unit - age * 0.62 * unit * 1.6, deck - 2.5 * unit - age * 0.30 * unit)
            cloud = picture.copy()
            disc(cloud, centre, (0.26 + 0.11 * age) * unit, (248, 248, 250))
            picture = blend(picture, cloud, np.full(picture.shape[:2], 0.75 - 0.1 * age, np.float32))
        for wagon in range(3):
            _wagon(picture, x - (3.1 * wagon + 3.0) * unit, deck, unit, t)
        _engine(picture, x, deck, unit, t)
        return picture

    return paint


def _bridge(picture: Picture, width: int, height: int) -> None:
    stone = tint(noise(9, height, width, (20, 30), 4), (112, 100, 92), (176, 164, 148))
    mask = np.zeros_like(picture)
    polygon(mask, [(0, 0.70 * height), (width, 0.70 * height), (width, height), (0, height)], (255, 255, 255))
    for arch in np.arange(0.1, 1.0, 0.2):
        oval(mask, (arch * width, height), (0.075 * width, 0.2 * height), (0, 0, 0))
    picture[:] = blend(picture, stone, coverage(mask))
    line(picture, (0, 0.70 * height), (width, 0.70 * height), (70, 62, 58), 3)


def _wheels(picture: Picture, centres: list[float], deck: float, unit: float, t: float) -> None:
    for x in centres:
        disc(picture, (x, deck - 0.3 * unit), 0.3 * unit, (34, 30, 34))
        rim = turned([(-0.24 * unit, 0.0), (0.24 * unit, 0.0)], 6 * t, (x, deck - 0.3 * unit))
        line(picture, rim[0], rim[1], (190, 190, 190))


def _wagon(picture: Picture, x: float, deck: float, unit: float, t: float) -> None:
    polygon(picture, corners(x, deck - 1.7 * unit, x + 2.8 * unit, deck - 0.4 * unit), (186, 36, 34))
    polygon(picture, corners(x + 0.1 * unit, deck - 1.95 * unit, x + 2.7 * unit, deck - 1.7 * unit), (70, 60, 62))
    for pane in range(3):
        left = x + (0.3 + 0.82 * pane) * unit
        polygon(picture, corners(left, deck - 1.45 * unit, left + 0.56 * unit, deck - 0.9 * unit), (250, 226, 150))
    _wheels(picture, [x + 0.5 * unit, x + 2.3 * unit], deck, unit, t)


def _engine(picture: Picture, x: float, deck: float, unit: float, t: float) -> None:
    parts: tuple[tuple[float, float, float, float, Colour], ...] = (
        (0.0, -2.0, 1.0, -0.4, (150, 26, 28)),  # cab
        (0.2, -1.8, 0.8, -1.3, (250, 226, 150)),  # its window
        (1.0, -1.4, 2.4, -0.4, (196, 40, 36)),  # boiler
        (1.65, -2.1, 2.05, -1.4, (40, 36, 40)),  # chimney
    )
    for left, top, right, bottom, colour in parts:
        polygon(picture, corners(x + left * unit, deck + top * unit, x + right * unit, deck + bottom * unit), colour)
    disc(picture, (x + 2.4 * unit, deck - 0.9 * unit), 0.14 * unit, (255, 240, 180))
    _wheels(picture, [x + 0.5 * unit, x + 1.3 * unit, x + 2.0 * unit], deck, unit, t)


def balloon(width: int, height: int, light: Light = DAWN, seed: int = 180) -> Painter:
    """A balloon with red and yellow stripes rises over violet mountains while clouds drift to the left."""
    backdrop = sky(width, height, light, (0.2, 0.24))
    ground = standing(hills(width, height, light, seed, 0.0), width, height)
    weather = cloud_layer(width, height, seed + 5, 0.07, 0.62)
    unit = 0.17 * min(width, height) * 1.15

    def paint(t: float) -> Picture:
        picture = ground.over(weather.over(backdrop, t), t)
        x, y = (0.55 + 0.03 * np.sin(0.9 * t)) * width, (0.66 - 0.085 * t) * height
        for stripe in range(7):
            colour = (210, 40, 40) if stripe % 2 == 0 else (246, 200, 60)
            share = 1 - stripe / 7
            oval(picture, (x, y), (unit * share, 1.1 * unit), colour)
        polygon(
            picture,
            [
                (x - 0.46 * unit, y + 0.95 * unit),
                (x + 0.46 * unit, y + 0.95 * unit),
                (x + 0.18 * unit, y + 1.4 * unit),
                (x - 0.18 * unit, y + 1.4 * unit),
            ],
            (170, 34, 34),
        )
        for side in (-0.17, 0.17):
            line(picture, (x + side * unit, y + 1.35 * unit), (x + side * unit, y + 1.72 * unit), (60, 44, 40))
        polygon(
            picture,
            [
                (x - 0.2 * unit, y + 1.7 * unit),
                (x + 0.2 * unit, y + 1.7 * unit),
                (x + 0.16 * unit, y + 2.0 * unit),
                (x - 0.16 * unit, y + 2.0 * unit),
            ],
            (120, 80, 46),
        )
        return picture

    return paint


def snow(width: int, height: int, seed: int = 200) -> Painter:
    """Snow falls at night on small houses with yellow windows under a moon; the camera travels to the right."""
    night = Light(
        ((10, 14, 44), (28, 36, 84), (70, 74, 124)),
        (240, 238, 214),
        (((44, 50, 96), (70, 78, 124)), ((56, 64, 110), (96, 104, 150)), ((150, 160, 196), (226, 232, 246))),
    )
    backdrop = sky(width, height, night, (0.8, 0.2))
    ground = hills(width, height, night, seed, 0.08)
    rng = np.random.default_rng(seed)
    near = ground[-1]
    for house in range(15):
        x, y = (0.1 + 0.2 * house + rng.uniform(-0.03, 0.03)) * width, rng.uniform(0.80, 0.90) * height
        drawn = np.zeros_like(near.picture)
        _house(drawn, x, y, 0.09 * height, house)
        there = drawn.any(axis=2)
        near.picture[there] = drawn[there]
        near.cover[there] = 1.0
    flakes = rng.random((190, 2)) * (width, height)
    sizes = rng.choice([0.6, 0.9, 1.3, 1.8, 2.4], 190) * height / 220

    def paint(t: float) -> Picture:
        picture = backdrop
        for layer in ground:
            picture = layer.over(picture, t)
        for (x0, y0), size in zip(flakes, sizes, strict=True):
            fall = (0.07 + 0.07 * size) * height
            x = (x0 + 6 * np.sin(0.8 * t + y0) + 0.03 * width * t) % width
            disc(picture, (x, (y0 + fall * t) % height), size, (248, 250, 255))
        return picture

    return paint


def _house(picture: Picture, x: float, y: float, size: float, kind: int) -> None:
    wall = ((96, 62, 50), (120, 90, 70), (84, 70, 84))[kind % 3]
    polygon(picture, corners(x - size, y - 1.2 * size, x + size, y), wall)
    roof = [(x - 1.25 * size, y - 1.2 * size), (x + 1.25 * size, y - 1.2 * size), (x, y - 2.2 * size)]
    polygon(picture, roof, (232, 238, 250))
    for side in (-0.45, 0.45):
        left = x + (side - 0.22) * size
        polygon(picture, corners(left, y - 0.9 * size, left + 0.44 * size, y - 0.4 * size), (255, 210, 96))
