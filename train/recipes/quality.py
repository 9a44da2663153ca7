"""Recipe for quality fine-tuning (Emu3, section 2.5.1): the best pictures, at 720 x 720, with loss on their codes."""

from __future__ import annotations

from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.parallel import ParallelConfig
from reelmill.train.recipes.pretraining import EMU3_IDS


def qft() -> TrainConfig:
    """Emu3's quality fine-tuning: next tokens of the best pictures at 720 x 720, loss on codes alone, rate to zero.

    `reelmill select OUT quality --preset qft --complete` chooses and tokenizes them and says which `--selection` and
    `data.fingerprint` to train on. Disclosed: the loss, the size, the linear decay to zero at the end; the context is
    that of the released Emu3-Gen, a picture of 8,199 tokens and its caption. Chosen here, since the paper does not say:
    batch and steps; learning rate, warm-up, betas, eps, weight decay, clipping and captions left out, as in the
    released fine-tuning (`emu3_sft`), whose loss leaves out EOL, EOF and EOI too: `--set data.ends_weight=1.0` counts
    them. For video add it to `data.kinds` and raise `data.context`: a latent frame has about 8,200 tokens.
    """
    return TrainConfig(
        model=ModelConfig(vocab_size=EMU3_IDS),
        init="runs/emu3_stage2",
        sizes="init",
        data=DataConfig(
            context=9216, batch_rows=256, heldout=0.001, caption_drop=0.05, kinds=("image",),
            text_weight=0.0, structure_weight=0.0, ends_weight=0.0, vision_weight=1.0,
        ),
        optimizer=OptimizerConfig(lr=1e-5, schedule="linear", warmup_steps=30, eps=1e-6, grad_clip=5.0),
        parallel=ParallelConfig(recompute="selective"),
        steps=2_000,
    )  # fmt: skip
