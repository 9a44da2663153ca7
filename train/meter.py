"""Throughput, utilization and remaining time of a run."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import torch

from reelmill.train.estimate import flops_per_token
from reelmill.train.model import ModelConfig
from reelmill.train.parallel import Precision

PEAK_FLOPS = {
    "GB200": 2500e12,
    "B200": 2250e12,
    "B300": 2250e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100": 989e12,
    "H800": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A40": 150e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense bfloat16 FLOP/s by a part of the device's name (NVIDIA's data sheets); the first match counts."""
_WINDOW = 100


def peak_flops(device: torch.device) -> float | None:
    """Peak dense bfloat16 FLOP/s of the device; None for a CPU or a GPU that is not in `PEAK_FLOPS`."""
    if device.type != "cuda":
        return None
    words = torch.cuda.get_device_name(device)
    return next((peak for name, peak in PEAK_FLOPS.items() if f" {name} " in f" {words.replace('-', ' ')} "), None)


class Meter:
    """Turns steps into tokens a second, MFU and time left.

    MFU is that of `estimate.CONVENTION` over the documents as they are (pairs that the document mask forbids are not
    counted), against `PEAK_FLOPS` of all devices; in float32, or without a known peak, there is none.
    """

    def __init__(
        self, model: ModelConfig, precision: Precision, device: torch.device, devices: int, steps: int
    ) -> None:
        self._model, self._steps = model, steps
        peak = peak_flops(device)
        self.peak = peak * devices if peak and precision == "bfloat16" else None
        self._begun = time.monotonic()
        self._marks: deque[float] = deque(maxlen=_WINDOW + 1)

    def begin(self) -> None:
        """Start timing a step."""
        self._begun = time.monotonic()
        if not self._marks:
            self._marks.append(self._begun)

    def end(self, step: int, tokens: float, squares: float) -> dict[str, Any]:
        """The step ends: the meter's part of its log line.

        tokens: predictions of the step over all ranks; squares: the sum of the squares of its documents' lengths. The
        rate is of the step alone; the time left is reckoned from the last 100 steps with all that lies between them.
        """
        self._marks.append(time.monotonic())
        rate = tokens / (self._marks[-1] - self._begun)
        mean = (self._marks[-1] - self._marks[0]) / (len(self._marks) - 1)
        line = {
            "tokens_per_s": rate,
            "eta_s": mean * (self._steps - step - 1),
        }
        if self.peak and tokens:
            line["mfu"] = rate * flops_per_token(self._model, squares / tokens) / self.peak
        return line
