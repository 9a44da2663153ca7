"""Training recipes by name. Each is a function that returns a `TrainConfig`; its docstring says which numbers are
disclosed and which are chosen here."""

from __future__ import annotations

from collections.abc import Callable

from reelmill.config import nearest
from reelmill.errors import ConfigError
from reelmill.train.config import TrainConfig
from reelmill.train.recipes import emu3_5, pretraining, understanding
from reelmill.train.recipes.diagonal import diagonal
from reelmill.train.recipes.dida import dida
from reelmill.train.recipes.preference import dpo
from reelmill.train.recipes.quality import qft

PRETRAINING: dict[str, Callable[[], TrainConfig]] = {
    "tiny": pretraining.tiny,
    "small": pretraining.small,
    "1b": pretraining.one_billion,
    "emu3_stage1": pretraining.emu3_stage1,
    "emu3_bilingual": pretraining.emu3_bilingual,
    "emu3_stage2": pretraining.emu3_stage2,
    "emu3_sft": pretraining.emu3_sft,
    "emu3_5_stage1": emu3_5.emu3_5_stage1,
    "emu3_5_stage2": emu3_5.emu3_5_stage2,
}
POST_TRAINING: dict[str, Callable[[], TrainConfig]] = {
    "emu3_5_sft1": emu3_5.emu3_5_sft1,
    "emu3_5_sft2": emu3_5.emu3_5_sft2,
    "qft": qft,
    "dpo": dpo,
    "dida": dida,
    "diagonal": diagonal,
    "understanding_stage1": understanding.understanding_stage1,
    "understanding_stage2": understanding.understanding_stage2,
    "unified": understanding.unified,
    "captioner": understanding.captioner,
}
RECIPES = PRETRAINING | POST_TRAINING


def recipe(name: str) -> TrainConfig:
    """The recipe of that name; ConfigError names the nearest one."""
    if name not in RECIPES:
        raise ConfigError(f"no training recipe {name!r}; {nearest(name, RECIPES)}")
    return RECIPES[name]()
