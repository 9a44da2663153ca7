"""The lines of a run's log for a person: one a step and one a validation."""

from __future__ import annotations

from typing import Any

from reelmill.train.data.config import LOSS_KINDS
from reelmill.train.data.loader import Loader

_SHOWN = (*(kind.name.lower() for kind in LOSS_KINDS), "ntp", "margin", "accuracy", "kl")
"""Parts of a step's line that a person sees beside the loss, where it has them."""


def beginning(loader: Loader, heldout: int) -> list[str]:
    """What a run trains on, in lines."""
    packing = loader.packing(0)
    lines = [
        f"{len(loader.documents):,} documents in {packing.rows:,} rows of {packing.context:,} "
        f"({packing.fill:.1%} full), {loader.batches(0):,} steps an epoch; {heldout:,} documents held out"
    ]
    if len(loader.left_out):
        lines.append(
            f"left out: {len(loader.left_out):,} documents longer than data.context that cannot be cut (an image, or "
            "one latent frame of a video); raise data.context to train on them"
        )
    return lines


def readable(line: dict[str, Any], steps: int) -> str:
    """A line of the log for a person; `steps` are those of the whole run."""
    return _validation(line) if "validation" in line else _step(line, steps)


def _step(line: dict[str, Any], steps: int) -> str:
    kinds = " ".join(f"{name} {line[name]:.3f}" for name in _SHOWN if name in line)
    mfu = f"  MFU {line['mfu']:.1%}" if "mfu" in line else ""
    return (
        f"step {line['step'] + 1}/{steps}  loss {line['loss']:.4f} ({kinds})  lr {line['lr']:.2e}  "
        f"grad {line['grad_norm']:.2f}  {line['tokens_per_s']:,.0f} tokens/s{mfu}  {line['memory_gib']:.1f} GiB  "
        f"epoch {line['epoch']:.2f}, {_short(line['tokens'])} tokens  {_duration(line['eta_s'])} left"
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


def _validation(line: dict[str, Any]) -> str:
    if line["validation"] is None:
        share = line["heldout"]
        why = f"too few items for data.heldout {share:g}, of a single one none is" if share else "data.heldout is 0"
        return f"validation: no held-out items ({why})"
    entropy = line.get("unigram_entropy", {})
    parts = []
    for kind, nll in line["validation"].items():
        references = [f"unigram {entropy[kind]:.3f}"] if kind in entropy else []
        if kind == "vision" and "vision_shuffled" in line:
            references.append(f"shuffled {line['vision_shuffled']:.3f}")
        parts.append(f"{kind} {nll:.3f} ({', '.join(references)})" if references else f"{kind} {nll:.3f}")
    return f"validation after step {line['step']}, nats a token: " + "  ".join(parts)
