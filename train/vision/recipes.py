"""Recipes of vision tokenizers: each a function that returns a `TokenizerRecipe`."""

from __future__ import annotations

from collections.abc import Callable

from reelmill.config import nearest
from reelmill.errors import ConfigError
from reelmill.tokenize.vision.presets import PRESETS
from reelmill.train.vision.data import DataConfig
from reelmill.train.vision.losses import LossConfig
from reelmill.train.vision.trainer import AdamConfig, TokenizerRecipe


def reelmill_tok_s() -> TokenizerRecipe:
    """The shipped tokenizer, trained on one CPU core in about 75 minutes."""
    return TokenizerRecipe(
        name="reelmill-tok-s",
        model=PRESETS["reelmill-tok-s"],
        data=DataConfig(pictures=6, clips=1, latents=2, sizes=(64, 64, 64, 96), cache_gb=6.0),
        loss=LossConfig(lpips=0.1, lpips_start=3_000),
        optimizer=AdamConfig(lr=2e-3),
        steps=7_500,
        ema=0.999,
    )


RECIPES: dict[str, Callable[[], TokenizerRecipe]] = {"reelmill-tok-s": reelmill_tok_s}


def recipe(name: str) -> TokenizerRecipe:
    """The recipe of that name; ConfigError names the nearest one."""
    if name not in RECIPES:
        raise ConfigError(f"no tokenizer recipe {name!r}; {nearest(name, RECIPES)}")
    return RECIPES[name]()
