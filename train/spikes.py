"""Loss spikes: a step whose loss or gradient is far above those before it, and what becomes of its batch.

The rule is that of OLMo-core's `SkipStepOptimizer`: a step is a spike if its loss or its gradient's norm is more than
`sigmas` standard deviations above the mean of the last `window` steps, once half as many have been made. A loss or a
norm that is not finite is one at any time. Leaving out the batches since the last checkpoint is PaLM's answer
(arXiv 2204.02311, section 5.1): the same batches from another state of the model made no spike there.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

from reelmill.errors import ConfigError, ReelmillError


@dataclass(kw_only=True)
class SpikeConfig:
    """What becomes of a step that is a spike, before it updates anything."""

    action: Literal["off", "skip", "rollback"] = "off"
    """`off`: nothing. `skip`: its batch is left out, and the step made with the next. `rollback`: the run goes back to
    its last checkpoint, and all batches since are left out."""
    window: int = 128
    """Steps whose losses and norms a step is compared with."""
    sigmas: float = 6.0
    """How many standard deviations above their mean a spike is."""
    most: int = 8
    """Spikes within `window` steps that are answered; one more ends the run."""

    def check(self) -> None:
        """Raise ConfigError for values out of range."""
        if self.window < 4 or not self.sigmas > 0 or self.most < 1:
            raise ConfigError(
                f"spikes.window is {self.window}, sigmas {self.sigmas:g} and most {self.most}; window must be 4 or "
                "more, sigmas above 0, most 1 or more."
            )


@dataclass(frozen=True)
class Spike:
    """A step, from 0, that is not to be made with its batch."""

    step: int
    batch: int
    reason: str


class SpikeGuard:
    """Knows the last losses and norms, and which batches are left out. All ranks hold the same."""

    def __init__(self, config: SpikeConfig) -> None:
        config.check()
        self.config = config
        self._recent: deque[list[float]] = deque(maxlen=config.window)
        # In the order of the batches: the step that was a spike, its first batch, and the first one not left out.
        self._left_out: list[list[int]] = []

    @property
    def is_on(self) -> bool:
        """Whether spikes are looked for."""
        return self.config.action != "off"

    @property
    def batches_left_out(self) -> int:
        """How many batches are left out so far."""
        return sum(stop - first for _, first, stop in self._left_out)

    def batch(self, step: int) -> int:
        """The number of the batch that a step is made with, both from 0."""
        number = step
        for _, first, stop in self._left_out:
            if number >= first:
                number += stop - first
        return number

    def reason(self, loss: float, norm: float) -> str | None:
        """Why a step with this loss and norm of the gradient is a spike, or None."""
        if len(self._recent) < self.config.window // 2:
            return None
        for name, value, before in zip(
            ("loss", "gradient's norm"), (loss, norm), zip(*self._recent, strict=True), strict=True
        ):
            mean, deviation = statistics.fmean(before), statistics.stdev(before)
            if value > mean + self.config.sigmas * deviation:
                return (
                    f"its {name} is {value:.4g}, {self.config.sigmas:g} standard deviations ({deviation:.2g}) or more "
                    f"above the mean {mean:.4g} of the last {len(before)} steps"
                )
        return None

    def made(self, loss: float, norm: float) -> None:
        """A step was made, with this loss and norm."""
        if self.is_on and math.isfinite(loss) and math.isfinite(norm):
            self._recent.append([loss, norm])

    def leave_out(self, spike: Spike, first: int) -> None:
        """Leave out the batches from `first` up to the spike's. Raises ReelmillError for too many spikes."""
        recent = sum(step > spike.step - self.config.window for step, *_ in self._left_out)
        if recent >= self.config.most:
            raise ReelmillError(
                f"step {spike.step + 1} is a spike ({spike.reason}), and so were {recent} of the last "
                f"{self.config.window} steps: leaving out batches does not help. The last checkpoint is sound; go on "
                "from it with a lower optimizer.lr in another folder (init), or raise spikes.sigmas."
            )
        inner = [entry for entry in self._left_out if entry[1] < first]
        self._left_out = [*inner, [spike.step, first, spike.batch + 1]]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that a resumed run decides as an undisturbed one."""
        return {"recent": list(self._recent), "left_out": self._left_out} if self.is_on or self._left_out else {}

    def load(self, state: dict[str, Any], *, history_only: bool = False) -> None:
        """Take over the state of a checkpoint; with `history_only` what is left out by now stays so."""
        self._recent.clear()
        self._recent.extend(state.get("recent", []))
        if not history_only:
            self._left_out = [list(entry) for entry in state.get("left_out", [])]
