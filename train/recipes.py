"""Training recipes: each a function that returns a `TrainConfig`."""

from __future__ import annotations

from collections.abc import Callable

from reelmill.config import nearest
from reelmill.errors import ConfigError
from reelmill.train.data import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.saver import CheckpointConfig
from reelmill.train.trainer import TrainConfig


def tiny() -> TrainConfig:
    """A toy that learns the sample dump in five CPU-minutes: Emu3's decoder with 1.2 million parameters.

    Few documents, so few examples of where a row ends: most of what it sees are lessons (`lessons.py`), structure
    tokens weigh 3 (1 elsewhere), and queries and keys are normed as in Emu3.5, with which it learns to count sooner.
    """
    return TrainConfig(
        model=ModelConfig(
            hidden=96, layers=3, heads=3, kv_heads=1, head_dim=64, mlp=256, qk_norm=True, rope_theta=10_000.0,
            dropout=0.0, attention_dropout=0.0, init_std=0.08,
        ),
        data=DataConfig(context=512, batch_rows=1, heldout=0.1, lessons=60, structure_weight=3.0),
        optimizer=OptimizerConfig(lr=4e-3, warmup_steps=50),
        steps=2600,
        precision="float32",
        validate_every=650,
        validate_rows=32,
        checkpoint=CheckpointConfig(every=650),
    )  # fmt: skip


def emu3_8b() -> TrainConfig:
    """Emu3's first stage: 8,492,011,520 parameters, text and images in a context of 5,120.

    Disclosed (arXiv 2409.18869, sections 2.3-2.4, table 3; released configuration): the model, the context, the
    learning rate and its cosine to zero, the vision weight. Not disclosed, chosen here: batch, steps, warm-up, betas,
    weight decay, clipping. The second stage, with video, is the same with data.context 131072.
    """
    return TrainConfig(
        model=ModelConfig(vocab_size=184_622),
        data=DataConfig(context=5120, batch_rows=1024, heldout=0.001),
        optimizer=OptimizerConfig(lr=5e-5, warmup_steps=2_000),
        steps=100_000,
    )


RECIPES: dict[str, Callable[[], TrainConfig]] = {"tiny": tiny, "emu3_8b": emu3_8b}


def recipe(name: str) -> TrainConfig:
    """The recipe of that name; ConfigError names the nearest one."""
    if name not in RECIPES:
        raise ConfigError(f"no training recipe {name!r}; {nearest(name, RECIPES)}")
    return RECIPES[name]()
