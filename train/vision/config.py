"""The configuration of a tokenizer's training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from reelmill.config import free, free_table
from reelmill.errors import ConfigError
from reelmill.tokenize.vision.ibq import IBQConfig
from reelmill.tokenize.vision.movq import MoVQConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.parallel import Device, Precision
from reelmill.train.saver import CheckpointConfig
from reelmill.train.trackers import LogConfig
from reelmill.train.vision.data import DataConfig
from reelmill.train.vision.losses import LossConfig


@dataclass(kw_only=True)
class TokenizerOptimizerConfig(OptimizerConfig):
    """AdamW for the tokenizer, and the constant learning rate of its discriminator."""

    lr: float = 2e-3
    final_lr: float = 2e-5
    warmup_steps: int = 100
    beta2: float = 0.99
    weight_decay: float = 0.01
    discriminator_lr: float = 2e-4
    """Learning rate of the discriminator, the same in all steps."""


@dataclass(kw_only=True)
class TokenizerRecipe:
    """How to train a tokenizer."""

    name: str
    """What the tokenizer will be called."""
    model: MoVQConfig | IBQConfig
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: TokenizerOptimizerConfig = field(default_factory=TokenizerOptimizerConfig)
    steps: int = free(10_000)
    """May change when a run goes on: the learning rate follows the new end."""
    ema: float = 0.998
    """Decay of the moving average of the weights, which is the tokenizer that is kept."""
    revive_every: int = 0
    """Steps between revivals, in which codes that went unused become vectors of the batch. Learned codebooks only; 0:
    never. There are none in the last third of the steps: codes settle while the learning rate ends."""
    fit: int = 0
    """Patches that the shortcut and the codebook are fitted to before the first step (`fit.py`); 0: no fit."""
    init: str = ""
    """The tokenizer whose weights training starts from: a shipped one's name, or a file. "": random weights."""
    train_only: Literal["all", "decoder"] = "all"
    """`decoder`: the encoder and the codebook of `init` stay as they are, and every code with them."""
    seed: int = 0
    """Seed of the first weights and of what each step sees."""
    precision: Precision = "float32"
    """What the layers compute in."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How ranks share the work: each has all weights, or a part of them."""
    device: Device = free("auto")
    """What it runs on; `auto` takes a GPU where there is one."""
    log_every: int = free(100)
    """Steps whose mean loss terms make one line of the log."""
    checkpoint: CheckpointConfig = free_table(lambda: CheckpointConfig(keep=2))
    """The tokenizer's file, its scores and pictures are written as often."""
    log: LogConfig = free_table(LogConfig)

    def __post_init__(self) -> None:
        if self.train_only == "decoder" and (not self.init or self.fit or self.revive_every):
            raise ConfigError(
                f"train_only is decoder with init {self.init!r}, fit {self.fit} and revive_every {self.revive_every}: "
                "name the tokenizer whose codes are kept as init, and set the other two to 0, for both change codes"
            )
