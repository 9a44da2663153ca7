"""What a run learns, as the trainer sees it: the batches of a step, their loss, its log lines, its validation.

Pretraining, quality fine-tuning and understanding are one objective, the next token (`next_token.py`), with other
weights; preferences are another (`post/preference.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.batches import Batch
from reelmill.train.model import Decoder


class Source(Protocol):
    """What a run is trained on."""

    @property
    def vocab(self) -> Vocabulary:
        """Of all its documents."""

    @property
    def tokenizer(self) -> str:
        """Fingerprint of the vision tokenizer that made the codes."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of all that is trained on."""

    def name(self, document: int) -> str:
        """What a person finds a document of a batch by."""

    def image_grids(self) -> npt.NDArray[np.int64]:
        """int64 [images, 2]: height and width in codes of its images, or of some hundreds of them."""


class BatchLoss(NamedTuple):
    """What a micro-batch gives.

    total: a scalar; its gradient, summed over micro-batches and ranks, is that of the step's loss. sums: float64 [n],
    what `Objective.line` is made of once summed over micro-batches and ranks with other tokens. nll: of each prediction
    [rows, this rank's columns], to find what is not finite.
    """

    total: Tensor
    sums: Tensor
    nll: Tensor


class Objective(Protocol):
    """A kind of training; one is made a run, on each rank."""

    def prepare(self, out: Path, log_fn: Callable[[str], None]) -> None:
        """Called once before the first step, on all ranks together; `out` is the run's folder."""

    def describe(self) -> list[str]:
        """What is trained on, in lines."""

    def micro_batches(self, step: int) -> list[Batch]:
        """What this rank computes in a step, in order; every rank gets equally many."""

    def epoch(self, step: int) -> float:
        """Epochs made when the step is done."""

    def weights(self, batch: Batch) -> list[float]:
        """What the losses of the whole rows of a batch are divided by, summed over the global batch before `loss`."""

    def loss(self, model: Decoder, batch: Batch, weights: list[float]) -> BatchLoss:
        """The loss of a micro-batch; `weights` are those of the whole global batch."""

    def line(self, sums: Tensor) -> dict[str, float]:
        """The step's part of the log, `loss` among it, from the sums of all its batches."""

    def validate(self, model: Decoder) -> dict[str, Any]:
        """The line of a validation, but for its step: `validation` holds numbers by name, or None without any data."""
