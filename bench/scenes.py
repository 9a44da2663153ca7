"""A toy world with known contents: every picture shows one colored shape on a plain ground.

    python bench/scenes.py WORK

Scenes are drawn from a seed, rendered at 48 x 48 pixels, encoded with reelmill-tok-xs (6 x 6 codes) and written as a
run folder that `reelmill train`, `stats` and `verify` read. `read` tells from pixels what they show, so that drawn
pictures and captions can be judged without a person. `base_model` trains a decoder on the world: the stages after
pretraining are proven on it (`bench/post_*.py`). Run alone, this script makes WORK/world and WORK/base and prints how
often `read` is right on pictures that went through the tokenizer, how often drawn pictures obey their captions, and how
often captions name what a picture shows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from reelmill.eval.generation import Clip, SamplingParams, Studio, TokenSampling
from reelmill.pipelines.imports.tokens import import_tokens
from reelmill.tokenize.vision import VisionTokenizer, load
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig

TOKENIZER = "reelmill-tok-xs"
SIDE = 48
GRID = SIDE // 8
"""Codes per side."""
# Colors and grounds that the tokenizer reproduces; its green, for example, is nearly gray.
COLOURS = {"red": (220, 30, 30), "blue": (40, 60, 210), "yellow": (240, 210, 30)}
GROUNDS = {"white": (245, 245, 245), "black": (10, 10, 10), "grey": (128, 128, 128)}
SHAPES = ("circle", "bar", "triangle")
RADII = (15.0, 18.0)
"""Smallest and largest, in pixels."""
SHIFT = 2.0
"""Largest distance of a shape's center from the picture's, in pixels, in each direction."""
CONFIG = TrainConfig(
    model=ModelConfig(
        hidden=96, layers=3, heads=3, kv_heads=1, head_dim=64, mlp=256, qk_norm=True, rope_theta=10_000.0,
        dropout=0.0, attention_dropout=0.0, init_std=0.06,
    ),
    data=DataConfig(context=512, batch_rows=2, heldout=0.05, vision_weight=1.0),
    optimizer=OptimizerConfig(lr=4e-3, warmup_steps=50),
    steps=1000,
    precision="float32",
    validate_every=250,
    validate_rows=32,
    checkpoint=CheckpointConfig(every=1000),
)  # fmt: skip
"""The recipe of `base_model`."""

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """The contents of a picture. `x`, `y`: the shape's center; `radius`: of the circle around it; all in pixels."""

    colour: str
    shape: str
    ground: str
    x: float = SIDE / 2
    y: float = SIDE / 2
    radius: float = sum(RADII) / 2

    @property
    def caption(self) -> str:
        """The full caption: "a red circle on white"."""
        return f"a {self.colour} {self.shape} on {self.ground}"

    @property
    def caption_without_colour(self) -> str:
        """ "a circle on white"."""
        return f"a {self.shape} on {self.ground}"

    @property
    def names(self) -> tuple[str, str, str]:
        """Color, shape, ground."""
        return self.colour, self.shape, self.ground


@dataclass(frozen=True)
class World:
    """Settings of a world. `spoiled`: share of pictures that are blurred or noisy; `after`: of captions after the
    codes; `colourless`: of the captions before them that do not name the color."""

    pictures: int = 4_000
    seed: int = 0
    spoiled: float = 0.0
    after: float = 0.4
    colourless: float = 0.25


def every() -> list[Scene]:
    """A scene of each color, shape and ground: 27, in the middle and of middle size."""
    return [Scene(*names) for names in itertools.product(COLOURS, SHAPES, GROUNDS)]


def scene(rng: np.random.Generator) -> Scene:
    """A random scene."""
    x, y = SIDE / 2 + rng.uniform(-SHIFT, SHIFT, 2)
    names = (str(rng.choice(list(kind))) for kind in (COLOURS, SHAPES, GROUNDS))
    return Scene(*names, x=float(x), y=float(y), radius=float(rng.uniform(*RADII)))


def render(what: Scene, fine: int = 4, side: int = SIDE) -> Picture:
    """uint8 [side, side, 3], edges smoothed by drawing `fine` times as large."""
    image = Image.new("RGB", (side * fine, side * fine), GROUNDS[what.ground])
    draw, colour = ImageDraw.Draw(image), COLOURS[what.colour]
    x, y, r = (number * fine * side / SIDE for number in (what.x, what.y, what.radius))
    if what.shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif what.shape == "bar":
        draw.rectangle((x - r, y - 0.4 * r, x + r, y + 0.4 * r), fill=colour)
    else:
        draw.polygon([(x, y - r), (x + r, y + 0.8 * r), (x - r, y + 0.8 * r)], fill=colour)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def spoil(picture: Picture, rng: np.random.Generator) -> tuple[Picture, str]:
    """The picture, blurred or with noise, and which: "blurred" or "noisy"."""
    if rng.random() < 0.5:
        blurred = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(rng.uniform(2.5, 4.5)))
        return np.asarray(blurred), "blurred"
    noise = rng.normal(0, rng.uniform(25, 50), picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8), "noisy"


def pictures(world: World, side: int = SIDE) -> Iterator[tuple[Scene, Picture, str]]:
    """Its scenes as they are drawn, and their quality: "clean", "blurred" or "noisy"."""
    for number in range(world.pictures):
        rng = np.random.default_rng([world.seed, number])
        what = scene(rng)
        picture, quality = render(what, side=side), "clean"
        if rng.random() < world.spoiled:
            picture, quality = spoil(picture, rng)
        yield what, picture, quality


def read(picture: Picture) -> Scene:
    """The scene whose rendering, of all on a grid of places and sizes, is nearest to the pixels (least squares)."""
    return nearest(picture)[0]


def nearest(picture: Picture) -> tuple[Scene, float]:
    """What `read` gives, and how far the picture is from its rendering: median of the differences, in gray levels."""
    scenes, bank = _renderings()
    found = scenes[int((0.5 * (bank**2).sum(axis=1) - bank @ _small(picture)).argmin())]
    away = np.abs(render(found, side=len(picture)).astype(np.float32) - picture)
    return found, float(np.median(away))


def named(text: str) -> tuple[str | None, str | None, str | None]:
    """The color, shape and ground that a text names, each the first that it does; None where it names none."""
    words = re.findall(r"[a-z]+", text.lower())

    def first(kind: Sequence[str]) -> str | None:
        return next((word for word in words if word in kind), None)

    return first(list(COLOURS)), first(SHAPES), first(list(GROUNDS))


def obeys(picture: Picture, caption: str) -> bool:
    """Whether the picture shows all that the caption names."""
    return all(said in (None, seen) for said, seen in zip(named(caption), read(picture).names, strict=True))


def write_world(folder: Path, world: World = World()) -> Path:
    """The run folder `folder` with a document for each picture; `source` is its quality. What is there stays."""
    if folder.exists():
        return folder
    tokenizer = load(TOKENIZER)
    folder.parent.mkdir(parents=True, exist_ok=True)
    lines = folder.with_suffix(".jsonl")
    with lines.open("w") as file:
        for number, (what, picture, quality) in enumerate(pictures(world)):
            rng = np.random.default_rng([world.seed, number, 1])
            after, colourless = rng.random(2) < (world.after, world.colourless)
            file.write(
                json.dumps(
                    {
                        "text": what.caption_without_colour if colourless and not after else what.caption,
                        "codes": tokenizer.encode_image(picture).tolist(),
                        "caption_after": bool(after),
                        "source": quality,
                    }
                )
                + "\n"
            )
    vocab = Vocabulary("bytes", tokenizer.codes)
    import_tokens(lines, folder, vocab, tokenizer.fingerprint, TOKENIZER, say=lambda _: None)
    return folder


def base_model(folder: Path, world: Path, config: TrainConfig = CONFIG) -> Path:
    """The last checkpoint of a decoder trained on the run folder `world`, in the training run `folder`.

    About 4 CPU-minutes, of which a run that is there already takes what it lacks.
    """
    return train(config, [world], folder, log_fn=lambda _: None)


def drawn_right(studio: Studio, captions: Sequence[str], sampling: SamplingParams) -> list[bool]:
    """Draw a picture for each caption; whether it obeys."""
    found = studio.images(captions, GRID, GRID, sampling=sampling)
    return [obeys(picture, caption) for picture, caption in zip(found, captions, strict=True)]


def captions_of(studio: Studio, images: Sequence[Picture]) -> list[str]:
    """The likeliest words of a model about each picture."""
    likeliest = SamplingParams(text=TokenSampling(temperature=0.0))
    return [studio.caption(Clip(image[None]), max_new_tokens=40, sampling=likeliest) for image in images]


def reader_accuracy(tokenizer: VisionTokenizer, count: int = 300, seed: int = 1_000) -> float:
    """Share of clean pictures, encoded and decoded, in which `read` finds color, shape and ground."""
    right = [
        read(tokenizer.decode_image(tokenizer.encode_image(picture))).names == what.names
        for what, picture, _ in pictures(World(pictures=count, seed=seed))
    ]
    return float(np.mean(right))


@cache
def _renderings() -> tuple[list[Scene], npt.NDArray[np.float32]]:
    """Scenes on a grid, and their pixels [scenes, n]."""
    shifts = np.linspace(-SHIFT, SHIFT, 3)
    radii = np.linspace(*RADII, 3)
    scenes = [
        replace(what, x=SIDE / 2 + x, y=SIDE / 2 + y, radius=r)
        for what, x, y, r in itertools.product(every(), shifts, shifts, radii)
    ]
    return scenes, np.stack([_small(render(what, fine=2)) for what in scenes])


def _small(picture: Picture) -> npt.NDArray[np.float32]:
    """At 24 x 24, float32 [n]."""
    small = Image.fromarray(picture).resize((SIDE // 2, SIDE // 2), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).reshape(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    args = parser.parse_args()
    began = time.process_time()
    world = write_world(args.work / "world")
    print(f"world: {time.process_time() - began:.0f} CPU-seconds", flush=True)
    began = time.process_time()
    studio = Studio.open(base_model(args.work / "base", world))
    print(f"base model: {time.process_time() - began:.0f} CPU-seconds", flush=True)
    print(f"read is right on {reader_accuracy(studio.vision):.1%} of 300 pictures that went through the tokenizer")
    captions = [what.caption for what in every()] * 4
    for name, sampling in {
        "all codes": SamplingParams(vision=TokenSampling()),
        "top-k 20": SamplingParams(vision=TokenSampling(top_k=20)),
        "likeliest": SamplingParams(vision=TokenSampling(temperature=0.0)),
    }.items():
        some = captions[: len(every())] if name == "likeliest" else captions
        print(f"drawn pictures that obey their captions, {name}: {np.mean(drawn_right(studio, some, sampling)):.1%}")
    unseen = list(pictures(World(pictures=108, seed=1_000)))
    words = captions_of(studio, [picture for _, picture, _ in unseen])
    right = np.mean(
        [[a == b for a, b in zip(named(w), s.names, strict=True)] for w, (s, _, _) in zip(words, unseen, strict=True)],
        0,
    )
    whole = np.mean([named(w) == s.names for w, (s, _, _) in zip(words, unseen, strict=True)])
    print(f"captions of 108 unseen pictures: colour, shape, ground right {right}; all three {whole:.1%}")


if __name__ == "__main__":
    main()
