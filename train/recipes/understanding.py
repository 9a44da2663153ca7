"""Recipes for a model that talks about pictures (Emu3, section 2.5.2), and for one that draws and talks.

The paper discloses the two stages, what counts in their loss and the pictures' sizes; learning rates, batches, steps
and mixtures are chosen here.
"""

from __future__ import annotations

from dataclasses import replace

from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.parallel import ParallelConfig
from reelmill.train.recipes.pretraining import EMU3_IDS


def understanding_stage1() -> TrainConfig:
    """Emu3's first stage of understanding: pictures with what they show behind them, mixed with text alone.

    Disclosed: image-to-text and text-only data, no loss on vision tokens, pictures of about 512 x 512 with their shape
    kept. Chosen here: every caption stands behind the codes, however it is stored (`data.caption_after`); EOL, EOF and
    EOI have no loss either, EOS has; the mixture is that of the run folders (`--data pictures=0.8 --data texts=0.2`); a
    fifth of the pretraining's learning rate.
    """
    return TrainConfig(
        model=ModelConfig(vocab_size=EMU3_IDS),
        init="runs/emu3_stage2",
        sizes="init",
        data=DataConfig(
            context=5120, batch_rows=512, heldout=0.001, kinds=("text", "image", "interleaved"),
            caption_after=1.0, ends_weight=0.0, vision_weight=0.0,
        ),
        optimizer=OptimizerConfig(lr=1e-5, warmup_steps=500),
        parallel=ParallelConfig(recompute="selective"),
        steps=20_000,
    )  # fmt: skip


def understanding_stage2() -> TrainConfig:
    """Emu3's second stage of understanding: questions and answers about pictures (`reelmill chat import`).

    Disclosed: a subset of LLaVA-OneVision's conversations, pictures of 512 x 512 to 1024 x 1024. Chosen here: answers
    alone count (of conversations; other documents as in stage 1), a context that holds one picture of the largest size
    and a long conversation, or seven of 512 x 512; the learning rate of Emu3.5's fine-tuning, since a user found 1e-5
    too high for Emu3-Chat.
    """
    first = understanding_stage1()
    return replace(
        first,
        init="runs/understanding_stage1",
        data=replace(first.data, context=32_768, batch_rows=64),
        optimizer=OptimizerConfig(lr=6e-6, warmup_steps=200),
        parallel=ParallelConfig(context=2, recompute="selective"),
        steps=10_000,
    )


def unified() -> TrainConfig:
    """One model that draws, describes, answers and writes with pictures between: promised by Emu3, never released.

    All chosen here. Half of the captions stand before the codes, half behind them, drawn anew each epoch, and one in
    twenty of the first is left out for guidance. Codes weigh 0.5 as in pretraining. The structure tokens count: a model
    that has learned them opens a picture and states its size itself. The mixture is that of the run folders: `--data
    pictures=0.5 --data chats=0.25 --data interleaved=0.15 --data texts=0.1`.
    """
    second = understanding_stage2()
    return replace(
        second,
        init="runs/emu3_stage2",
        data=replace(
            second.data, kinds=DataConfig().kinds, caption_after=0.5, caption_drop=0.05, ends_weight=None,
            vision_weight=0.5,
        ),
        optimizer=OptimizerConfig(lr=1e-5, warmup_steps=500),
        steps=20_000,
    )  # fmt: skip


def captioner() -> TrainConfig:
    """A captioner of one's own, from pairs that better captioners or people wrote: Emu3's loop (section 2.1), closed.

    `reelmill caption export` writes the pairs, `reelmill chat import` makes documents of them: frames, the prompts for
    content and motion, the caption, which alone counts. `reelmill caption run --source checkpoint` then captions with
    it. Emu3 tunes Emu2 on about a million pairs and discloses no numbers: chosen here, those of `understanding_stage2`,
    whose context holds 8 frames of 384 x 384 (18,900 tokens), and half of its steps.
    """
    return replace(understanding_stage2(), init="runs/understanding_stage2", steps=5_000)
