"""The run's log: a JSON line a step and a validation, and the same as one readable line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reelmill.train.data import LOSS_KINDS

METRICS = "metrics.jsonl"


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a line to a JSONL file."""
    with path.open("a", encoding="utf-8") as metrics:
        metrics.write(json.dumps(line) + "\n")


def readable(line: dict[str, Any], steps: int) -> str:
    """A line of the log for a person; `steps` are those of the whole run."""
    return _validation(line) if "validation" in line else _step(line, steps)


def _step(line: dict[str, Any], steps: int) -> str:
    kinds = " ".join(
        f"{kind.name.lower()} {line[kind.name.lower()]:.3f}" for kind in LOSS_KINDS if kind.name.lower() in line
    )
    return (
        f"step {line['step'] + 1}/{steps}  loss {line['loss']:.4f} ({kinds})  lr {line['lr']:.2e}  "
        f"grad {line['grad_norm']:.2f}  {line['tokens_per_s']:,.0f} tokens/s  epoch {line['epoch']:.2f}"
    )


def _validation(line: dict[str, Any]) -> str:
    if line["validation"] is None:
        return "validation: no held-out items (data.heldout is 0)"
    entropy = line["unigram_entropy"]
    parts = []
    for kind, nll in line["validation"].items():
        references = [f"unigram {entropy[kind]:.3f}"] if kind in entropy else []
        if kind == "vision":
            references.append(f"shuffled {line['vision_shuffled']:.3f}")
        parts.append(f"{kind} {nll:.3f} ({', '.join(references)})" if references else f"{kind} {nll:.3f}")
    return f"validation after step {line['step']}, nats a token: " + "  ".join(parts)
