"""Where a run's log goes beside the terminal: always a JSONL file; TensorBoard and Weights & Biases on request."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from reelmill.errors import ConfigError, DataError
from reelmill.files import write_text

METRICS = "metrics.jsonl"


@dataclass(kw_only=True)
class LogConfig:
    """Trackers beside `metrics.jsonl`."""

    tensorboard: bool = False
    """Event files in RUN/tensorboard (extra `tensorboard`)."""
    wandb: str = ""
    """Project on Weights & Biases (extra `wandb`); none where empty. WANDB_MODE=offline keeps it on this machine."""

    def check(self) -> None:
        """Raise ConfigError where a tracker's package is missing."""
        for package, wanted in (("tensorboard", self.tensorboard), ("wandb", bool(self.wandb))):
            if wanted and find_spec(package) is None:
                raise ConfigError(
                    f'log.{package} is set, but {package} is not installed; pip install "reelmill[{package}]", or '
                    f"leave log.{package} out. {METRICS} is written in any case."
                )


class Tracker(Protocol):
    """Receives the lines of the log."""

    def write(self, metrics: dict[str, Any]) -> None:
        """Record a line."""

    def close(self) -> None:
        """Flush and close."""


def trackers(out: Path, config: LogConfig, recipe: dict[str, Any], step: int, first: int = 1) -> list[Tracker]:
    """The trackers of the run in `out`, which has made `step` steps. What stood there of later ones is done again.

    `first`: the step of a log's first line.
    """
    found: list[Tracker] = [JsonLines(out / METRICS, step, first)]
    if config.tensorboard:
        found.append(TensorBoard(out / "tensorboard", step))
    if config.wandb:
        found.append(WandB(out, config.wandb, recipe))
    return found


def scalars(metrics: dict[str, Any]) -> tuple[int, dict[str, float]]:
    """(steps completed, numbers by name) of a step's or a validation's metrics, for trackers that draw curves."""
    own = {name: value for name, value in metrics.items() if isinstance(value, int | float) and name != "step"}
    is_validation = "validation" in metrics
    if is_validation:
        own |= metrics["validation"] or {}
    group = "validation" if is_validation else "train"
    return metrics["step"], {f"{group}/{name}": value for name, value in own.items()}


class JsonLines:
    """One JSON object a line.

    Earlier versions counted steps from 0, validations from 1: a log that begins so is counted anew when it is opened.
    """

    def __init__(self, path: Path, step: int, first: int = 1) -> None:
        self._path = path
        if path.is_file():
            before = path.read_text(encoding="utf-8", errors="replace")
            kept = [
                metrics
                for number, line in enumerate(before.splitlines(keepends=True), 1)
                if (metrics := _parsed(line, f"{path}, line {number}")) is not None
            ]
            trained = [metrics for metrics in kept if "validation" not in metrics]
            if trained and trained[0]["step"] == first - 1:
                for metrics in trained:
                    metrics["step"] += 1
            after = "".join(json.dumps(metrics) + "\n" for metrics in kept if metrics["step"] <= step)
            if after != before:
                write_text(path, after)

    def write(self, metrics: dict[str, Any]) -> None:
        """Add the line."""
        with self._path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(metrics) + "\n")

    def close(self) -> None:
        """Nothing to close."""


class TensorBoard:
    """TensorBoard event files."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, metrics: dict[str, Any]) -> None:
        """Add the line's numbers."""
        step, values = scalars(metrics)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


class WandB:
    """A run on Weights & Biases, the same one when training goes on; its id is kept in RUN/wandb-id."""

    def __init__(self, out: Path, project: str, recipe: dict[str, Any]) -> None:
        import wandb

        note = out / "wandb-id"
        if not note.is_file():
            write_text(note, secrets.token_hex(4))
        name = note.read_text(encoding="utf-8")
        self._run = wandb.init(
            project=project, id=name, resume="allow", name=out.resolve().name, dir=str(out), config=recipe
        )
        self._run.define_metric("*", step_metric="step")

    def write(self, metrics: dict[str, Any]) -> None:
        """Add the line's numbers."""
        step, values = scalars(metrics)
        self._run.log({"step": step, **values})

    def close(self) -> None:
        """Flush and close."""
        self._run.finish()


def _parsed(text: str, where: str) -> dict[str, Any] | None:
    """A line of the log; None where it was cut off by a kill. DataError where it is none of a log."""
    if not text.endswith("\n"):
        return None
    try:
        metrics: dict[str, Any] = json.loads(text)
        metrics["step"] += 0  # a number
    except (ValueError, TypeError, KeyError, AttributeError):
        raise DataError(
            f"{where} is damaged: it is no JSON object with a step; take it out, or move the file away, then run the "
            "same command again"
        ) from None
    return metrics
