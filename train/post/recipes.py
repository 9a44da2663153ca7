"""Post-training recipes: each a function that returns a `TrainConfig`."""

from __future__ import annotations

from collections.abc import Callable

from reelmill.train.post.preference_recipes import dpo
from reelmill.train.post.quality import qft
from reelmill.train.post.understanding import captioner, understanding_stage1, understanding_stage2, unified
from reelmill.train.trainer import TrainConfig

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "qft": qft,
    "dpo": dpo,
    "understanding_stage1": understanding_stage1,
    "understanding_stage2": understanding_stage2,
    "unified": unified,
    "captioner": captioner,
}
