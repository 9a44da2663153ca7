"""A step's metrics as one readable line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SHOWN_WAIT = 0.1
"""Share of a step from which on waiting for data is shown."""


def format_step(metrics: dict[str, Any], shown: Sequence[str], steps: int) -> str:
    """The line of a step: `shown` are the metrics beside the loss, `steps` the length of the run."""
    parts = " ".join(f"{name} {metrics[name]:.3f}" for name in shown if name in metrics)
    mfu = f"  MFU {metrics['mfu']:.1%}" if "mfu" in metrics else ""
    waited = f"  waited {metrics['data_wait']:.0%} for data" if metrics.get("data_wait", 0.0) >= SHOWN_WAIT else ""
    return (
        f"step {metrics['step']}/{steps}  loss {metrics['loss']:.4f} ({parts})  lr {metrics['lr']:.2e}  "
        f"grad {metrics['grad_norm']:.2f}  {metrics['tokens_per_s']:,.0f} tokens/s{mfu}  "
        f"{metrics['memory_gib']:.1f} GiB{waited}  epoch {metrics['epoch']:.2f}, {_short(metrics['tokens'])} tokens  "
        f"{_duration(metrics['eta_s'])} left"
    )


def _short(count: float) -> str:
    """12,300,000 as 12.3 M."""
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f}"


def _duration(seconds: float) -> str:
    """Two units: 3 d 4 h, 2 h 05 min, 1 min 20 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60:02} min" if hours else f"{minutes} min {rest:02} s"
