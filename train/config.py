"""The configuration of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from reelmill.config import free, free_table
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.objectives.preference.loss import PreferenceConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.parallel import Device, ParallelConfig, Precision
from reelmill.train.saver import CheckpointConfig
from reelmill.train.trackers import LogConfig


@dataclass(kw_only=True)
class TrainConfig:
    """A training recipe."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: Literal["next_token", "preference"] = "next_token"
    """What is learnt: to predict documents, or which of two is preferred (`objective.py`)."""
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)
    """Of the objective `preference`."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    init: str = ""
    """Weights to begin with (`init_from.py`): a checkpoint, a training run or a folder in Hugging Face's layout."""
    sizes: Literal["recipe", "init"] = "recipe"
    """Whose sizes the model has: those of [model], or, as in the stages after pretraining, those of `init`."""
    steps: int = 100_000
    seed: int = 0
    """Of the first weights, the order of the data and dropout."""
    z_loss: float = 0.0
    """Weight of the squared log-normaliser of the logits in each token's loss (`loss.py`); 0: none."""
    precision: Precision = "bfloat16"
    """What the layers compute in; parameters, optimizer and gradient sums are float32."""
    device: Device = free("auto")
    validate_every: int = free(1_000)
    validate_rows: int = free(256)
    """At most so many rows of held-out documents."""
    sample_prompts: list[str] = free_table(list)
    """Captions of pictures that are drawn at each validation, into RUN/samples/step-N."""
    checkpoint: CheckpointConfig = free_table(CheckpointConfig)
    log: LogConfig = free_table(LogConfig)
