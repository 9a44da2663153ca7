"""Recipe of pictures drawn by diagonals, from any autoregressive checkpoint."""

from __future__ import annotations

from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.objectives.diagonal import DiagonalConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.parallel import ParallelConfig
from reelmill.train.recipes.pretraining import EMU3_IDS


def diagonal() -> TrainConfig:
    """FlashAR's adaptation: a second head, so that a picture of H x W codes takes H + W - 1 passes.

    Train it on pictures that the checkpoint drew itself, and on documents of all that it is to keep. From FlashAR
    (arXiv 2605.09430): copies of the last two layers as the second head (its configuration for Emu3.5), the weights of
    0.05, a first fifth of the steps in which only the second head learns, a fifth of the rate for the rest afterwards,
    learning rate 2e-5 with a cosine decay. Chosen here: captions left out for a share of 0.1, without which there is no
    guidance (its release leaves out none), the next-token loss of the documents, warm-up, batch and steps; no dropout.
    A row of 9,216 holds a picture of 720 x 720 and its caption, and the picture's copy about as much again.
    """
    return TrainConfig(
        model=ModelConfig(vocab_size=EMU3_IDS, dropout=0.0, attention_dropout=0.0, vertical_layers=2),
        init="runs/qft",
        sizes="init",
        objective="diagonal",
        settings={"diagonal": DiagonalConfig()},
        data=DataConfig(
            context=9216, batch_rows=256, heldout=0.001, caption_drop=0.1, vision_weight=0.5
        ),
        optimizer=OptimizerConfig(lr=2e-5, warmup_steps=500, weight_decay=0.05, grad_clip=1.0),
        parallel=ParallelConfig(recompute="selective"),
        steps=10_000,
    )  # fmt: skip
