"""Recipes of preference training."""

from __future__ import annotations

from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.objectives.preference.loss import PreferenceConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.parallel import ParallelConfig
from reelmill.train.recipes.pretraining import EMU3_IDS
from reelmill.train.saver import CheckpointConfig


def dpo() -> TrainConfig:
    """Emu3's preference training: DPO with the next-token loss on the chosen, from its fine-tuned model (`init`).

    Disclosed (arXiv 2409.18869, section 2.5): the two losses, their starting point, images of 720 x 720 whose tokens
    are kept as they were drawn. Not disclosed, chosen here: beta 0.1 and a next-token weight of 1; the learning rate
    5e-7 with its linear fall to zero, no weight decay; 64 rows of one pair or more a step, 1,000 steps; no dropout,
    which would add noise of many nats to a document's log-probability. A row of 18,432 holds two documents of 9,216,
    the context of its released Emu3-Gen. Structure counts as codes do: where the model is sure of it, it adds nothing
    to a pair.
    """
    return TrainConfig(
        model=ModelConfig(vocab_size=EMU3_IDS, dropout=0.0, attention_dropout=0.0),
        init="runs/qft",
        sizes="init",
        objective="preference",
        settings={"preference": PreferenceConfig(loss="dpo", beta=0.1, ntp_weight=1.0)},
        data=DataConfig(context=18_432, batch_rows=64, heldout=0.05, vision_weight=1.0),
        optimizer=OptimizerConfig(lr=5e-7, schedule="linear", warmup_steps=50, weight_decay=0.0),
        parallel=ParallelConfig(recompute="selective"),
        steps=1_000,
        validate_every=100,
        checkpoint=CheckpointConfig(every=100),
    )
