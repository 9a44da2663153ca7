"""Recipes of Emu3.5 (arXiv 2510.26583): two stages of pretraining, two of supervised fine-tuning.

Shares of tokens, which are given with --data. Pretraining (section 3): text 0.20 then 0.18, image-text 0.20 then 0.16,
video-text 0.05 then 0.08, any-to-image 0.00 then 0.03, interleaved video 0.55 in both. Fine-tuning (section 4.1,
billions of tokens): general 29.7, any-to-image 56.2, narrative 10.1, guidance 22.5, exploration 17.5, embodied 14.1.
"""

from __future__ import annotations

from dataclasses import replace

from reelmill.tokenize.layout import EMU3_5
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.parallel import ParallelConfig

IDS = Vocabulary("qwen", 131_072, EMU3_5).size


def emu3_5_stage1() -> TrainConfig:
    """Emu3.5's first stage: 34,103,460,864 parameters, 10.3 trillion tokens in rows of 32,768, pictures up to 512².

    Disclosed (arXiv 2510.26583, tables 1 and 2; released configuration): the model, the learning rate and its cosine,
    warm-up, betas, eps, weight decay, clipping, batch, steps, loss weights, tensor and context parallelism, and that it
    begins with the weights of Qwen3: `init` is the folder of Qwen3-32B, whose rows of text are taken; the rows that are
    new begin as random ones. The paper's dropout is 0.1, the released configuration has none in attention.
    """
    return TrainConfig(
        model=ModelConfig(
            vocab_size=IDS, hidden=5120, layers=64, heads=64, kv_heads=8, head_dim=128, mlp=25_600, qk_norm=True,
            norm_eps=1e-6, attention_dropout=0.0,
        ),
        init="Qwen3-32B",
        data=DataConfig(context=32_768, batch_rows=448, heldout=0.001, caption_drop=0.05),
        optimizer=OptimizerConfig(lr=5e-4, warmup_steps=700, grad_clip=5.0),
        parallel=ParallelConfig(tensor=8, context=2, recompute="selective"),
        steps=700_000,
    )  # fmt: skip


def emu3_5_stage2() -> TrainConfig:
    """Emu3.5's second stage: from the weights of the first, 3.5 trillion tokens, pictures of 512² to 1,024².

    Disclosed: the learning rate, the steps; all other numbers as in the first stage.
    """
    first = emu3_5_stage1()
    rate = replace(first.optimizer, lr=1e-5)
    return replace(first, init="runs/emu3_5_stage1", optimizer=rate, steps=240_000)


def emu3_5_sft1() -> TrainConfig:
    """Emu3.5's first supervised fine-tuning: answers in all its tasks, in rows of 16,384.

    Disclosed (section 4.1.3): batch 1,024, learning rate 6e-6 along a cosine, betas 0.9 and 0.95, 3,000 steps, a
    context of 16,384, visual tokens weigh 1.0, tensor parallelism of 8. Any-to-image at 768², guidance, narrative and
    embodied at 512², exploration at 720². Chosen here: warm-up of 100 steps; decay and clipping as in pretraining.
    """
    second = emu3_5_stage2()
    return replace(
        second,
        init="runs/emu3_5_stage2",
        data=replace(second.data, context=16_384, batch_rows=1024, vision_weight=1.0, caption_drop=0.0),
        optimizer=replace(second.optimizer, lr=6e-6, warmup_steps=100),
        parallel=replace(second.parallel, context=1),
        steps=3_000,
    )


def emu3_5_sft2() -> TrainConfig:
    """Emu3.5's second supervised fine-tuning: the same in rows of 32,768, at higher resolution.

    Disclosed: a context of 32,768, visual tokens weigh 0.5, context parallelism of 2; any-to-image at 1,024², the
    others at 720². Learning rate, batch and steps as in the first.
    """
    first = emu3_5_sft1()
    return replace(
        first,
        init="runs/emu3_5_sft1",
        data=replace(first.data, context=32_768, vision_weight=0.5),
        parallel=replace(first.parallel, context=2),
    )
