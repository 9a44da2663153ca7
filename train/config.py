"""The configuration of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from reelmill.config import PLUGIN_TABLES, free, free_table
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.objectives import settings_tables
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.parallel import Device, ParallelConfig, Precision
from reelmill.train.saver import CheckpointConfig
from reelmill.train.spikes import SpikeConfig
from reelmill.train.trackers import LogConfig


@dataclass(kw_only=True)
class TrainConfig:
    """A training recipe. Raises ConfigError for an objective or a table that does not exist."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: str = "next_token"
    """What the model learns: a name in `objectives.OBJECTIVES`, or `package.module:Class`."""
    settings: dict[str, Any] = field(default_factory=dict, metadata=PLUGIN_TABLES)
    """The objective's own settings. In a recipe they are the table with the objective's name: [preference]."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    init: str = ""
    """Weights to start from (`init_from.py`): a checkpoint, a training run or a folder in Hugging Face's layout."""
    sizes: Literal["recipe", "init"] = "recipe"
    """Where the model's sizes come from: [model], or, as in the stages after pretraining, the weights of `init`."""
    steps: int = 100_000
    """Optimizer steps of the run."""
    seed: int = 0
    """Seed of the initial weights, the order of the data, and dropout."""
    z_loss: float = 0.0
    """Weight of the squared log-normalizer of the logits in each token's loss (`loss.py`). 0 turns it off."""
    precision: Precision = "bfloat16"
    """The data type that the layers compute in. Parameters, optimizer and gradient sums are float32."""
    device: Device = free("auto")
    """The device; `auto` takes a GPU if there is one."""
    validate_every: int = free(1_000)
    """Steps between validations."""
    validate_rows: int = free(256)
    """Rows of held-out documents per validation, at most."""
    sample_prompts: list[str] = free_table(list)
    """Captions of images that are generated at each validation, into RUN/samples/step-N."""
    checkpoint: CheckpointConfig = free_table(CheckpointConfig)
    log: LogConfig = free_table(LogConfig)
    spikes: SpikeConfig = free_table(SpikeConfig)
    """What becomes of loss spikes; a run that has begun may turn it on."""

    def __post_init__(self) -> None:
        self.settings = settings_tables(self.objective, self.settings, [f.name for f in fields(self)])
