"""The rows of a packing that a rank computes in a step: a pure function of the step."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from reelmill.errors import ConfigError
from reelmill.train.data.config import DataConfig
from reelmill.train.data.packing import Packing


class Schedule:
    """The steps of a run whose epochs have the rows of `packing(epoch)`, shared by `ranks`.

    Raises ConfigError where the rows of a batch cannot be shared out evenly.
    """

    def __init__(self, packing: Callable[[int], Packing], config: DataConfig, ranks: int) -> None:
        if config.batch_rows % (config.micro_rows * ranks):
            raise ConfigError(
                f"data.batch_rows {config.batch_rows} is not a multiple of data.micro_rows {config.micro_rows} times "
                f"{ranks} ranks; change one of them."
            )
        self._packing, self._config, self._ranks = packing, config, ranks
        self.batches = lru_cache(maxsize=None)(self._batches)

    def place(self, step: int) -> tuple[int, int]:
        """The epoch of `step` and its batch there, both from 0. Epochs may differ in length by a few batches."""
        epoch = 0
        while step >= self.batches(epoch):
            step, epoch = step - self.batches(epoch), epoch + 1
        return epoch, step

    def epoch(self, step: int) -> float:
        """Epochs completed when the step is done."""
        epoch, batch = self.place(step)
        return epoch + (batch + 1) / self.batches(epoch)

    def rows(self, step: int, rank: int) -> list[list[int | None]]:
        """The rows of each micro-batch of `rank`, in order, None for a missing row; every rank gets the same number."""
        epoch, number = self.place(step)
        rows, batches = self._packing(epoch).rows, self.batches(epoch)
        first, stop = (rows * n // batches for n in (number, number + 1))
        micro, together = self._config.micro_rows, self._config.micro_rows * self._ranks
        starts = range(first + rank * micro, stop + rank * micro, together)
        return [[row if row < stop else None for row in range(start, start + micro)] for start in starts]

    def _batches(self, epoch: int) -> int:
        """Batches of an epoch; their numbers of rows differ by at most one."""
        return -(-self._packing(epoch).rows // self._config.batch_rows)
