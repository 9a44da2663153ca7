"""Recipes of pretraining."""

from __future__ import annotations

from dataclasses import replace

from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.parallel import ParallelConfig
from reelmill.train.saver import CheckpointConfig

EMU3_IDS = Vocabulary("qwen", 32_768).size


def tiny() -> TrainConfig:
    """A toy that learns the sample dump in five CPU-minutes: Emu3's decoder with 1.2 million parameters.

    Few documents, so few examples of where a row ends: most of what it sees is synthetic (`synthetic.py`), structure
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


def small() -> TrainConfig:
    """Emu3's decoder with 154 million parameters, 92 % of them the two tables of its whole vocabulary: to try things.

    One GPU, or a patient CPU. Text and images in a context of 5,120.
    """
    return TrainConfig(
        model=ModelConfig(
            vocab_size=EMU3_IDS, hidden=384, layers=8, heads=6, kv_heads=2, mlp=1024, dropout=0.0, attention_dropout=0.0
        ),
        data=DataConfig(context=5120, batch_rows=64, heldout=0.005, caption_drop=0.05, kinds=("text", "image")),
        optimizer=OptimizerConfig(lr=6e-4, warmup_steps=1_000),
        steps=20_000,
    )


def one_billion() -> TrainConfig:
    """Emu3's decoder with 1.06 billion parameters for 8 GPUs: docs/train-1b.md walks through it.

    Text and images in a context of 5,120, 1.3 million tokens a step, 21 billion in all: 20 for each parameter
    (Hoffmann et al., arXiv 2203.15556). Without dropout, since most documents are seen once.
    """
    return TrainConfig(
        model=ModelConfig(
            vocab_size=EMU3_IDS, hidden=1536, layers=16, heads=12, kv_heads=4, mlp=5376, dropout=0.0,
            attention_dropout=0.0,
        ),
        data=DataConfig(
            context=5120, batch_rows=256, micro_rows=4, heldout=0.001, caption_drop=0.05, kinds=("text", "image")
        ),
        optimizer=OptimizerConfig(lr=3e-4, warmup_steps=2_000),
        steps=16_000,
    )  # fmt: skip


def emu3_stage1() -> TrainConfig:
    """Emu3's first stage: 8,492,011,520 parameters, text and images in a context of 5,120, from scratch.

    Disclosed (arXiv 2409.18869, sections 2.3-2.4, table 3; released configuration): the model, the context, the
    learning rate and its cosine to zero, the vision weight. Not disclosed, chosen here: batch, steps, warm-up, betas,
    weight decay, clipping, and captions left out as often as in its fine-tuning.
    """
    return TrainConfig(
        model=ModelConfig(vocab_size=EMU3_IDS),
        data=DataConfig(context=5120, batch_rows=1024, heldout=0.001, caption_drop=0.05, kinds=("text", "image")),
        optimizer=OptimizerConfig(lr=5e-5, warmup_steps=2_000),
        steps=100_000,
    )


def emu3_bilingual() -> TrainConfig:
    """`emu3_stage1` with its texts in two languages: run folders of pictures, Chinese and English texts, in this order.

    Emu3's texts are Chinese and English (section 2.1); their shares are not disclosed. Here three quarters of an
    epoch's tokens are those of pictures with their captions, and the rest is halved. Recipes `chinese` and `english`
    of `curate` make the run folders of texts.
    """
    first = emu3_stage1()
    return replace(first, data=replace(first.data, shares=[0.75, 0.125, 0.125]))


def emu3_stage2() -> TrainConfig:
    """Emu3's second stage: video too, in a context of 131,072, from the weights of the first stage (`init`).

    Disclosed: the context, the data's kinds, the learning rate and its cosine to zero. Chosen here: as in stage 1; 40
    rows a step hold as many tokens as its 1,024, and 8 GPUs share each row.
    """
    first = emu3_stage1()
    return replace(
        first,
        init="runs/emu3_stage1",
        data=replace(first.data, context=131_072, batch_rows=40, kinds=DataConfig().kinds),
        parallel=ParallelConfig(context=8, recompute="selective"),
        steps=20_000,
    )


def emu3_sft() -> TrainConfig:
    """Emu3's published fine-tuning for images: vision tokens alone count, in a context of 10,240.

    Numbers of its script scripts/t2i_sft.sh: learning rate 1e-5 to 1e-6 along a cosine, warm-up of 30 steps, betas 0.9
    and 0.95, eps 1e-6, weight decay 0.1, clipping at 5.0, one caption in twenty left out, 8 rows a GPU (here of 8). Not
    as there: rows are packed, where it pads one image a row; and it says 4 epochs, so set `steps` to four times those
    of an epoch. It starts from Emu3-Gen: `--set init=FOLDER` takes that folder.
    """
    return TrainConfig(
        model=ModelConfig(vocab_size=EMU3_IDS),
        init="runs/emu3_stage2",
        data=DataConfig(
            context=10_240, batch_rows=64, heldout=0.001, caption_drop=0.05, kinds=("image",),
            text_weight=0.0, structure_weight=0.0, vision_weight=1.0,
        ),
        optimizer=OptimizerConfig(lr=1e-5, final_lr=1e-6, warmup_steps=30, eps=1e-6, grad_clip=5.0),
        parallel=ParallelConfig(recompute="selective"),
        steps=10_000,
    )  # fmt: skip
