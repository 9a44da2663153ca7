"""Recipe of DiDA: pictures in a few passes, from any autoregressive checkpoint."""

from __future__ import annotations

from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.objectives.dida.objective import DidaConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.parallel import ParallelConfig
from reelmill.train.recipes.pretraining import EMU3_IDS


def dida() -> TrainConfig:
    """Emu3.5's discrete diffusion adaptation: the model learns to draw all codes of a picture at once, in a few steps.

    Train it on pictures that the checkpoint drew itself, and on documents of all that it is to keep. Disclosed (arXiv
    2510.26583, section 4.3): those data, and what noisy and clean tokens see. From URSA (arXiv 2510.24717): the flow,
    its plain loss at independent times, captions left out for a share of 0.1, betas, decay, learning rate. Chosen here:
    the path fitted to the codebook, the next-token loss of the clean documents at the same weight, warm-up, batch and
    steps; no dropout, which FlexAttention does not have. A row of 9,216 holds a picture of 720 x 720 and its caption,
    and its noisy copy about as much again.
    """
    return TrainConfig(
        model=ModelConfig(vocab_size=EMU3_IDS, dropout=0.0, attention_dropout=0.0),
        init="runs/qft",
        sizes="init",
        objective="dida",
        settings={"dida": DidaConfig()},
        data=DataConfig(
            context=9216, batch_rows=256, heldout=0.001, caption_drop=0.1, vision_weight=0.5
        ),
        optimizer=OptimizerConfig(lr=3e-5, final_lr=1e-5, warmup_steps=500, weight_decay=0.05, grad_clip=1.0),
        parallel=ParallelConfig(recompute="selective"),
        steps=10_000,
    )  # fmt: skip
