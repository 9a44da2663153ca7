"""The interface between the trainer and what a run learns: data, batches, loss, metrics and validation.

Pretraining, quality fine-tuning and understanding share one objective, the next token (`next_token.py`), with different
weights. Preference pairs are another (`preference/`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from reelmill.config import from_dict
from reelmill.tokenize.shards import Selection
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.batches import Batch
from reelmill.train.model import Decoder
from reelmill.train.parallel import Layout

if TYPE_CHECKING:
    from reelmill.train.config import TrainConfig


class DataSource(Protocol):
    """The training data of a run."""

    @property
    def vocab(self) -> Vocabulary:
        """The vocabulary of all its documents."""

    @property
    def tokenizer(self) -> str:
        """Fingerprint of the vision tokenizer that made the codes."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of all training data."""

    def name(self, document: int) -> str:
        """What a person finds a document of a batch by."""

    def image_grids(self) -> npt.NDArray[np.int64]:
        """int64 [images, 2]: height and width in codes of its images, or of a few hundred of them."""


S = TypeVar("S", bound=DataSource)


@dataclass(kw_only=True)
class NoSettings:
    """The settings of an objective that has none."""


class BatchLoss(NamedTuple):
    """The result of a micro-batch.

    total: a scalar; its gradient, summed over micro-batches and ranks, is that of the step's loss. sums: float64 [n],
    the input of `Objective.metrics` once summed over micro-batches and the ranks with other tokens. nll: negative
    log-likelihood of each prediction [rows, this rank's columns], to find what is not finite.
    """

    total: Tensor
    sums: Tensor
    nll: Tensor


class Objective(ABC, Generic[S]):
    """A kind of training. The class says what its recipes read and need; each rank makes one instance per run."""

    name: ClassVar[str]
    """The table of its settings in a recipe."""
    shown: ClassVar[tuple[str, ...]] = ()
    """Metrics that the terminal line of a step shows beside the loss, if the step has them."""

    apart: ClassVar[str] = ""
    """Name prefixes of parameters with a learning rate of their own (`rate_factors`)."""

    copied: ClassVar[float] = 0.0
    """At most so many tokens are computed beside each one of the data, as copies of pictures (`dryrun.py`)."""

    Config: ClassVar[type] = NoSettings
    """A dataclass of its settings; `self.settings` is one."""

    def __init__(self, config: TrainConfig, source: S, layout: Layout) -> None:
        self.config, self.source, self.layout = config, source, layout
        self.settings: Any = self.settings_of(config)

    @classmethod
    def settings_of(cls, config: TrainConfig) -> Any:
        """The recipe's table of this objective as its `Config`."""
        return from_dict(cls.Config, config.settings.get(cls.name, {}), cls.name)

    @classmethod
    def check(cls, config: TrainConfig) -> None:
        """Raise ConfigError for a recipe that this objective cannot train, whatever the data and the machine."""
        cls.settings_of(config)

    @classmethod
    @abstractmethod
    def read(cls, config: TrainConfig, folders: Sequence[Path], selection: Selection | list[Selection]) -> S:
        """The data in `folders`; DataError where it is missing or does not fit together."""

    @classmethod
    @abstractmethod
    def problems(cls, config: TrainConfig, source: S) -> Iterator[str]:
        """The problems of the data, one sentence per row; reads all of it (`reelmill train --check-data`)."""

    @classmethod
    @abstractmethod
    def summary(cls, config: TrainConfig, source: S) -> str:
        """What `--check-data` prints for data without problems."""

    @classmethod
    def extra_memory(cls, config: TrainConfig, weights: int) -> dict[str, int]:
        """Bytes per GPU by part, beyond what every training run needs (`dryrun.py`). `weights`: bytes of one model."""
        return {}

    def prepare(self, out: Path, log_fn: Callable[[str], None]) -> None:
        """Called once before the first step, on all ranks together. `out` is the run's folder."""

    def rate_factors(self, step: int) -> tuple[float, float]:
        """Factors of the step's learning rate: of all parameters but those `apart`, and of these."""
        return 1.0, 1.0

    @abstractmethod
    def describe(self) -> list[str]:
        """Lines for the log that say what is trained on."""

    def subjects(self) -> list[str]:
        """Names of what is trained on (`data/subjects.py`); none where it is no corpus."""
        return []

    @abstractmethod
    def micro_batches(self, step: int) -> list[Batch]:
        """The batches of this rank in a step, in order. Every rank gets the same number."""

    @abstractmethod
    def epoch(self, step: int) -> float:
        """Epochs completed when the step is done."""

    @abstractmethod
    def denominators(self, batch: Batch) -> list[float]:
        """The denominators of the losses of a batch's rows. `loss` gets their sums over the global batch."""

    @abstractmethod
    def loss(self, model: Decoder, batch: Batch, denominators: list[float]) -> BatchLoss:
        """The loss of a micro-batch, divided by the denominators of the whole global batch."""

    @abstractmethod
    def metrics(self, sums: Tensor) -> dict[str, float]:
        """The step's metrics, `loss` among them, from the sums over all its batches."""

    @abstractmethod
    def validate(self, model: Decoder) -> dict[str, Any]:
        """The metrics of a validation: `validation` holds numbers by name, or None where nothing is held out."""

    def format_validation(self, metrics: dict[str, Any]) -> str:
        """A validation's line on the terminal; its `step` is in `metrics`, and `validation` holds numbers."""
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in metrics["validation"].items())
        return f"validation after step {metrics['step']}: {numbers}"
