"""Wide scenes of the sample dump: valley, sky, sea, lava, forest. Each returns a painter, seconds -> picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reelmill.pipelines.sampledump.paint import (
    Colour,
    Field,
    Painter,
    Picture,
    Point,
    below_line,
    blend,
    corners,
    coverage,
    disc,
    gradient,
    line,
    noise,
    oval,
    polygon,
    ridge,
    scroll,
    scroll_field,
    tint,
)


@dataclass(frozen=True)
class Light:
    """The colors of a time of day: sky from top to horizon, sun, and hills from far to near (dark, light)."""

    sky: tuple[Colour, ...]
    sun: Colour
    hills: tuple[tuple[Colour, Colour], ...]


DAWN = Light(
    ((62, 66, 128), (206, 120, 120), (255, 196, 120)),
    (255, 240, 200),
    (((120, 84, 132), (176, 120, 150)), ((78, 66, 112), (128, 98, 128)), ((34, 62, 52), (96, 128, 78))),
)
NOON = Light(
    ((46, 112, 200), (120, 178, 232), (206, 230, 244)),
    (255, 252, 226),
    (((96, 130, 172), (150, 178, 206)), ((58, 118, 84), (112, 164, 100)), ((52, 108, 30), (150, 190, 70))),
)
AUTUMN = Light(
    ((120, 150, 186), (196, 206, 210), (244, 226, 190)),
    (255, 248, 220),
    (((130, 124, 150), (176, 164, 176)), ((140, 84, 40), (206, 140, 60)), ((110, 50, 22), (226, 150, 50))),
)
MIST = Light(
    ((214, 196, 172), (232, 216, 192), (246, 234, 212)),
    (255, 248, 232),
    (((206, 188, 164), (222, 206, 182)), ((178, 158, 132), (204, 186, 160)), ((128, 106, 80), (190, 170, 138))),
)


@dataclass(frozen=True)
class Layer:
    """A scrolling layer: picture and cover repeat sideways; `speed` in picture heights a second."""

    picture: Picture
    cover: Field
    speed: float

    def over(self, below: Picture, t: float) -> Picture:
        """This layer over `below` at `t` seconds."""
        height, width = below.shape[:2]
        if self.speed == 0:
            return blend(below, self.picture[:, :width], self.cover[:, :width])
        x = self.speed * height * t
        cover = scroll_field(self.cover, x, 0, (width, height))
        return blend(below, scroll(self.picture, x, 0, (width, height)), cover)


def sky(width: int, height: int, light: Light, sun: Point) -> Picture:
    """A still sky with a sun at `sun` (shares of width and height)."""
    picture = gradient(height, width, *light.sky, light.sky[-1])
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot(columns - sun[0] * width, rows - sun[1] * height) / height
    glow = np.clip(0.75 * np.exp(-distance * 5.5), 0, 1).astype(np.float32)
    picture = blend(picture, np.full_like(picture, light.sun), glow)
    disc(picture, (sun[0] * width, sun[1] * height), 0.055 * height, light.sun)
    return picture


def hills(width: int, height: int, light: Light, seed: int, speed: float) -> list[Layer]:
    """Far, middle and near hills; nearer ones scroll faster (parallax), the nearest with pines at `speed`."""
    tops = ((0.34, 0.58), (0.52, 0.70), (0.72, 0.84))
    shares = (0.18, 0.45, 1.0)
    layers = []
    for place, ((low, high), share, (dark, bright)) in enumerate(zip(tops, shares, light.hills, strict=True)):
        wide = 3 * width
        skyline = ridge(seed + place, wide, 7 - 2 * place, low * height, high * height)
        grain = noise(seed + 10 + place, height, wide, (6 + 5 * place, 20 + 10 * place), 5)
        picture = tint(grain, dark, bright)
        cover = below_line(skyline, height)
        if place == 2:
            _plant(picture, cover, skyline, seed, light)
        layers.append(Layer(picture, cover, speed * share))
    return layers


def _plant(picture: Picture, cover: Field, skyline: Field, seed: int, light: Light) -> None:
    """Put pines on the near hill, in place."""
    rng = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    dark, bright = light.hills[2]
    needle = (dark[0] * 2 // 3, dark[1] * 2 // 3, dark[2] * 2 // 3)
    for x in rng.uniform(0.02, 0.98, 26) * width:
        foot = float(skyline[int(x)]) + rng.uniform(0.01, 0.12) * height
        tall = rng.uniform(0.12, 0.24) * height
        tree = np.zeros_like(picture)
        for step in range(3):
            top, base, half = (
                foot - tall * (1 - 0.22 * step),
                foot - tall * (0.5 - 0.22 * step),
                tall * (0.14 + 0.06 * step),
            )
            polygon(tree, [(x, top), (x - half, base), (x + half, base)], (255, 255, 255))
        polygon(tree, corners(x - 2, foot - 0.1 * tall, x + 2, foot), (255, 255, 255))
        left, right = max(int(x - tall), 0), int(x + tall)
        box = (slice(max(int(foot - tall - 2), 0), int(foot + 2)), slice(left, right))
        mask = coverage(tree[box])
        colour = needle if rng.random() < 0.7 else (bright[0] * 3 // 5, bright[1] * 3 // 5, bright[2] * 3 // 5)
        picture[box] = blend(picture[box], np.full_like(picture[box], colour), mask)
        cover[box] = np.maximum(cover[box], mask)


def standing(layers: list[Layer], width: int, height: int) -> Layer:
    """Several layers as they are at 0 s, merged into one that stands still."""
    picture = np.zeros((height, width, 3), np.uint8)
    open_sky = np.ones((height, width), np.float32)
    for layer in layers:
        picture = layer.over(picture, 0.0)
        open_sky *= 1 - layer.cover[:, :width]
    return Layer(picture, 1 - open_sky, 0.0)


def valley(width: int, height: int, light: Light = DAWN, seed: int = 1, speed: float = 0.28) -> Painter:
    """Hills under a sun; the camera travels to the right (the land slides left) for a positive `speed`."""
    backdrop = sky(width, height, light, (0.68, 0.30))
    layers = hills(width, height, light, seed, speed)

    def paint(t: float) -> Picture:
        picture = backdrop
        for layer in layers:
            picture = layer.over(picture, t)
        return picture

    return paint


def cloud_layer(width: int, height: int, seed: int, speed: float, thin: float = 0.52) -> Layer:
    """White clouds with gray undersides in the upper part of the picture."""
    field = noise(seed, height, 3 * width, (4, 7), 6)
    fade = np.clip(1.25 - np.arange(height, dtype=np.float32) / (0.75 * height), 0, 1)[:, None]
    cover = np.clip((field * fade - thin * 0.9) * 5, 0, 1).astype(np.float32)
    return Layer(tint(np.clip((field - 0.4) * 2.2, 0, 1), (196, 202, 214), (255, 255, 255)), cover, speed)


def clouds(width: int, height: int, seed: int = 20, speed: float = -0.16) -> Painter:
    """White clouds over green hills; a negative `speed` lets them drift to the right."""
    backdrop = sky(width, height, NOON, (0.2, -0.4))
    far, near = cloud_layer(width, height, seed, 0.5 * speed, 0.58), cloud_layer(width, height, seed + 1, speed)
    ground = standing(hills(width, height, NOON, seed + 3, 0.0)[1:], width, height)

    def paint(t: float) -> Picture:
        return ground.over(near.over(far.over(backdrop, t), t), t)

    return paint


def sunset_boat(width: int, height: int, seed: int = 40) -> Painter:
    """A boat with a red sail crosses a golden sea to the right under a low sun; the waves roll to the left."""
    light = Light(((52, 40, 96), (196, 84, 90), (255, 176, 84)), (255, 236, 170), DAWN.hills)
    horizon = round(0.52 * height)
    backdrop = sky(width, height, light, (0.3, 0.44))
    swell = tint(noise(seed, height - horizon, 2 * width, (9, 7), 4), (40, 44, 96), (150, 90, 110), (255, 196, 110))
    ripples = noise(seed + 1, height - horizon, 2 * width, (16, 10), 3)
    glints = np.clip((ripples - 0.62) * 4, 0, 0.8).astype(np.float32)
    gold = np.full((height - horizon, width, 3), (255, 214, 130), np.uint8)

    def paint(t: float) -> Picture:
        picture = backdrop.copy()
        size = (width, height - horizon)
        water = scroll(swell, 0.22 * height * t, 0, size)
        cover = scroll_field(glints, 0.34 * height * t, 0, size)
        picture[horizon:] = blend(water, gold, cover)
        x, y = (0.18 + 0.10 * t) * width, horizon + (0.16 + 0.02 * np.sin(2.2 * t)) * height
        _boat(picture, x, y, 0.16 * height, 0.10 * np.sin(1.7 * t))
        return picture

    return paint


def _boat(picture: Picture, x: float, y: float, size: float, lean: float) -> None:
    top = (x + lean * 2 * size, y - 2.0 * size)
    polygon(picture, [(x, y - 0.1 * size), top, (x + 1.1 * size, y - 0.25 * size)], (206, 44, 40))
    polygon(picture, [(x - 0.1 * size, y - 0.15 * size), top, (x - 0.8 * size, y - 0.25 * size)], (236, 226, 206))
    line(picture, (x, y), top, (70, 44, 30), 2)
    hull = [(x - 1.1 * size, y - 0.1 * size), (x + 1.2 * size, y - 0.1 * size), (x + 0.8 * size, y + 0.3 * size)]
    polygon(picture, [*hull, (x - 0.8 * size, y + 0.3 * size)], (84, 48, 32))


def lava(width: int, height: int, seed: int = 60) -> Painter:
    """Glowing orange lava flows downwards between slowly drifting dark crusts."""
    flow = noise(seed, 2 * height, width, (9, 6), 5)
    heat = noise(seed + 1, height, 2 * width, (4, 8), 3)

    def paint(t: float) -> Picture:
        size = (width, height)
        fast = scroll_field(flow, 6 * np.sin(0.7 * t), -0.20 * height * t, size)
        slow = scroll_field(heat, 0.05 * height * t, -0.12 * height * t, size)
        glow = (1 - np.abs(2 * fast - 1)) * 0.75 + 0.35 * slow - 0.1
        return tint(glow.astype(np.float32), (24, 10, 14), (96, 16, 10), (222, 74, 14), (255, 186, 50), (255, 250, 190))

    return paint


def forest(width: int, height: int, seed: int = 80, speed: float = -0.30) -> Painter:
    """Walking through a green forest: trunks pass to the right (negative `speed`), near ones faster than far ones."""
    backdrop = gradient(height, width, (190, 220, 150), (120, 176, 96), (70, 120, 60))
    leaves = tint(noise(seed, height, width, (8, 10), 5), (96, 150, 70), (216, 236, 160))
    backdrop = blend(backdrop, leaves, np.full((height, width), 0.55, np.float32))
    looks: tuple[tuple[int, float, float, Colour, Colour], ...] = (
        (9, 0.035, 0.25, (96, 116, 80), (136, 150, 104)),
        (6, 0.07, 0.55, (70, 62, 44), (120, 104, 70)),
        (3, 0.13, 1.0, (36, 26, 20), (96, 70, 46)),
    )
    layers = [
        _trunks(width, height, seed + 7 * i, *look[:2], speed * look[2], *look[3:]) for i, look in enumerate(looks)
    ]

    def paint(t: float) -> Picture:
        picture = backdrop
        for layer in layers:
            picture = layer.over(picture, t)
        return picture

    return paint


def _trunks(
    width: int, height: int, seed: int, count: int, thick: float, speed: float, dark: Colour, bright: Colour
) -> Layer:
    rng = np.random.default_rng(seed)
    wide = 2 * width
    bark = tint(noise(seed, height, wide, (5, 90), 4), dark, bright)
    floor = below_line(ridge(seed + 1, wide, 8, (0.80 + 1.2 * thick) * height, (0.76 + 1.2 * thick) * height), height)
    moss = tint(noise(seed + 2, height, wide, (14, 36), 4), (dark[0] // 2, dark[1], dark[2] // 2), (110, 140, 50))
    cover = np.zeros((height, wide, 3), np.uint8)
    gap = wide / count
    for place in range(count):
        x, half = gap * (place + rng.uniform(0.25, 0.75)), 0.5 * thick * height * rng.uniform(0.75, 1.25)
        lean = rng.uniform(-0.4, 0.4) * half
        foot = (0.86 + 1.2 * thick) * height
        trunk = [(x - 0.7 * half + lean, -2.0), (x + 0.7 * half + lean, -2.0), (x + half, foot), (x - half, foot)]
        polygon(cover, trunk, (255, 255, 255))
        oval(cover, (x, foot), (1.3 * half, 0.5 * half), (255, 255, 255))
    mask = coverage(cover)
    return Layer(blend(moss, bark, mask), np.maximum(mask, floor), speed)
