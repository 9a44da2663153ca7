"""The narrated sample dump: two rendered videos with subtitles, for recipe `emu3_5`. One is a how-to with steps, the
other one speaker before one camera, which the recipe rejects."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from reelmill.errors import DataError
from reelmill.pipelines.sampledump import landscapes, mills
from reelmill.pipelines.sampledump.contents import LICENCE, SOURCE
from reelmill.pipelines.sampledump.encode import Encoding, encode
from reelmill.pipelines.sampledump.paint import Painter, Picture, oval

WIDTH, HEIGHT, FPS = 320, 240, 12
STEP_S = 6.0
"""Seconds of a step; its words are said from 1 s to 5 s of it."""


@dataclass(frozen=True)
class Step:
    """A scene and what is said over it."""

    words: str
    painter: Painter


def how_to() -> list[Step]:
    """How a mill turns grain into bread, in six steps."""
    wind = partial(mills.windmill, light=landscapes.AUTUMN, seed=33)
    return [
        Step("A mill needs a hill with steady wind.", landscapes.valley(WIDTH, HEIGHT, seed=31)),
        Step("First turn the cap so that the sails face the wind.", mills.windmill(WIDTH, HEIGHT)),
        Step("Without wind, lead the river onto a wheel instead.", mills.waterwheel(WIDTH, HEIGHT)),
        Step("Now let the stones turn slowly. Hot flour tastes bitter.", wind(WIDTH, HEIGHT)),
        Step("Fetch wood from the forest for the oven.", landscapes.forest(WIDTH, HEIGHT, seed=91)),
        Step("Then wait until the fire is an even red.", landscapes.lava(WIDTH, HEIGHT)),
    ]


_SKIN, _SHADE, _NOSE, _HAIR = (222, 180, 150), (196, 148, 120), (206, 160, 130), (70, 48, 34)
_WHITE, _DARK, _LIPS, _COAT = (238, 234, 230), (40, 30, 26), (160, 70, 70), (40, 60, 90)
_HEAD = (
    *(((0, 135), (100, 70), _COAT), ((0, 62), (22, 34), _SHADE), ((0, -18), (56, 62), _HAIR)),
    *(((0, 4), (47, 62), _SKIN), ((0, -44), (44, 16), _HAIR)),
    *(((side, -8), (13, 8), _SHADE) for side in (-19, 19)),
    *(((side, -20), (12, 3), _HAIR) for side in (-19, 19)),
    *(((side, -6), (9, 5), _WHITE) for side in (-19, 19)),
    *(((side, -6), (5, 5), _DARK) for side in (-19, 19)),
    *(((0, 10), (5, 14), _NOSE), ((-6, 22), (4, 3), _SHADE), ((6, 22), (4, 3), _SHADE), ((0, 42), (20, 9), _SHADE)),
)
"""A head and shoulders: ovals, by their middle and half axes in pixels, from the middle of the face, back to front."""


def speaker() -> list[Step]:
    """One speaker before one background, who sways a little."""
    background = landscapes.valley(WIDTH, HEIGHT, light=landscapes.NOON, seed=12)(0.0)

    def paint(seconds: float) -> Picture:
        picture = background.copy()
        x, y = 160 + 10 * math.sin(1.3 * seconds), 105 + 3 * math.sin(2.1 * seconds)
        talk = abs(math.sin(9 * seconds))
        mouth = ((0, 40), (18, 4 + 3 * talk), _LIPS), ((0, 40), (14, 2 * talk), _DARK)
        for (right, down), size, colour in (*_HEAD, *mouth):
            oval(picture, (x + right, y + down), size, colour)
        return picture

    words = (
        "Welcome back to my channel.",
        "Today I talk about many things.",
        "I talk about them for a long time.",
        "And you see me all the while.",
    )
    return [Step(said, paint) for said in words]


VIDEOS = {"howto/mill.mp4": how_to, "talk/speaker.mp4": speaker}


def write_narrated_dump(folder: Path) -> int:
    """Write the dump to `folder`, whole or not at all; returns its bytes. DataError where the folder is not empty."""
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and is not empty; give a new folder for the sample dump, or delete it first")
    partial_folder = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)  # of a run that was killed
    for uri, made in VIDEOS.items():
        path, steps = partial_folder / uri, made()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(_frames(steps), WIDTH, HEIGHT, FPS, Encoding(tone=True)))
        path.with_suffix(".srt").write_text(subtitles([step.words for step in steps]), encoding="utf-8")
        path.with_suffix(".json").write_text(json.dumps({"licence": LICENCE, "source": SOURCE}) + "\n")
    size = sum(path.stat().st_size for path in partial_folder.rglob("*") if path.is_file())
    if folder.exists():
        folder.rmdir()
    partial_folder.replace(folder)
    return size


def subtitles(lines: Sequence[str]) -> str:
    """A SubRip file of what is said in each step."""
    cues = []
    for number, line in enumerate(lines):
        start, end = _clock(number * STEP_S + 1), _clock(number * STEP_S + STEP_S - 1)
        cues.append(f"{number + 1}\n{start} --> {end}\n{line}\n")
    return "\n".join(cues)


def _frames(steps: Sequence[Step]) -> Iterator[Picture]:
    for step in steps:
        for frame in range(int(STEP_S * FPS)):
            yield np.ascontiguousarray(step.painter(frame / FPS))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(seconds, 60)
    return f"00:{minutes:02.0f}:{seconds:06.3f}".replace(".", ",")
