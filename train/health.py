"""The health of a run: what its steps wait for, which rank is late, how full and how fast the GPUs are.

A rank is ready when it has its batches and its host is done with the step before. The others wait for the last one, so
the rank that waits least is the slow one: its data, its host, or what else runs there. A slow GPU is not seen in this
way, since all hosts wait for their GPUs' collectives alike; its clock and temperature are, where NVML is.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch

from reelmill.train.parallel import Ranks

LATE = 0.1
"""A rank for which the others wait this share of a step is late."""
ROW = 20
"""Steps in a row in which one rank is late before it is reported."""


def peak_memory(device: torch.device) -> int:
    """Peak memory of this process in bytes: of tensors on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


class Health:
    """Measures a rank and puts the numbers of all together once a step. All ranks call the same, together."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._has_nvml = ranks.device.type == "cuda" and find_spec("pynvml") is not None
        self._for_data = self._for_others = self._began = 0.0
        self._late: tuple[int, int] = (-1, 0)

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Wraps the wait for a step's batches; then waits until every rank has its own."""
        self._began = time.monotonic()
        yield
        ready = time.monotonic()
        self._ranks.wait()
        self._for_data, self._for_others = ready - self._began, time.monotonic() - ready

    def line(self) -> dict[str, float]:
        """The step ends: its part of the log's line, over all ranks.

        `data_wait`: the largest share of the step that a rank waited for its batches. `lag_s`: how much later than the
        first the `slowest_rank` was ready. `memory_gib`: of the rank that took most. `gpu_mhz`, `gpu_celsius`: the
        lowest clock and the highest temperature, where NVML is.
        """
        device = self._ranks.device
        own = [self._for_data, self._for_others, peak_memory(device)]
        own += [torch.cuda.clock_rate(device), torch.cuda.temperature(device)] if self._has_nvml else []
        step_s = time.monotonic() - self._began
        for_data, for_others, memory, *gpu = self._ranks.table(own).T.tolist()
        line = {
            "data_wait": max(for_data) / step_s,
            "lag_s": max(for_others) - min(for_others),
            "slowest_rank": for_others.index(min(for_others)),
            "memory_gib": max(memory) / 2**30,
        }
        is_late = len(for_others) > 1 and line["lag_s"] > LATE * step_s
        rank, times = self._late
        slowest = int(line["slowest_rank"]) if is_late else -1
        self._late = (slowest, times + 1 if slowest == rank else 1)
        if gpu:
            line |= {"gpu_mhz": min(gpu[0]), "gpu_celsius": max(gpu[1])}
        return line

    def warning(self) -> str | None:
        """What to say about a rank that has been late for `ROW` steps, each time it has been for so many more."""
        rank, times = self._late
        if rank < 0 or times % ROW:
            return None
        return (
            f"rank {rank} has been the last for {times} steps, each time more than {LATE:.0%} of a step behind: look "
            "at its machine (data, other programs, a slow disk)"
        )
