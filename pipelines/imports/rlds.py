"""Robots' episodes in RLDS, as TensorFlow Datasets writes Open X-Embodiment: TFRecord files, an episode a record.

An episode's steps lie in lists of one length under names such as `steps/observation/image` (each an encoded picture),
`steps/action` (all numbers of all steps one after another; some data sets have its parts under names of their own) and
`steps/language_instruction`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelmill.errors import ConfigError
from reelmill.pipelines.imports.chat_rows import ChatRow, Picture
from reelmill.pipelines.imports.tfrecord import Values, example, records
from reelmill.pipelines.imports.trajectories import spoken, step_rows

STEPS_A_SECOND = 5.0
"""What `--every` counts with, since RLDS states no rate: 5 is that of BridgeData V2; robots of Open X-Embodiment have 3
to 30."""
_OBSERVATION = "steps/observation/"
_WORDS = (
    "steps/language_instruction",
    "steps/observation/natural_language_instruction",
    "steps/natural_language_instruction",
)
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff")


def rlds_files(source: Path) -> list[Path]:
    """The TFRecord files of a folder."""
    found = sorted(path for path in source.rglob("*.tfrecord*") if path.is_file()) if source.is_dir() else []
    if not found:
        raise ConfigError(f"no RLDS at {source}: give the folder of NAME-train.tfrecord-00000-of-00010 and so on")
    return found


def rlds_rows(source: Path, every: float) -> Iterator[ChatRow]:
    """Rows of task vla: what a robot is asked and the first picture, then its actions and what its camera sees.

    An action is the mean of the steps since the last picture, two digits each. Of several cameras `image` is taken,
    else the first by name.
    """
    stride = max(1, round(every * STEPS_A_SECOND))
    for path in rlds_files(source):
        for number, record in enumerate(records(path), 1):
            place = f"{path.name}#{number}"
            if record is None:
                yield ChatRow(place, problem="its bytes do not agree with their checksum; download the file anew")
                continue
            try:
                features = example(record)
                pictures = _pictures(features)
                actions = _actions(features, len(pictures))
            except (ValueError, UnicodeDecodeError) as error:
                yield ChatRow(place, problem=str(error))
                continue
            seen = [Picture(f"{place}/{step}", pictures[step]) for step in range(0, len(pictures), stride)]
            yield from step_rows(place, "vla", _words(features), spoken(actions, stride), seen.__getitem__)


def _pictures(features: Mapping[str, Values]) -> list[bytes]:
    """The encoded pictures of a camera."""
    cameras = sorted(name for name in features if name.startswith(_OBSERVATION))
    cameras.sort(key=lambda name: name != f"{_OBSERVATION}image")
    for name in cameras:
        values = features[name]
        if isinstance(values, list) and values and all(value.startswith(_PICTURES) for value in values):
            return values
    there = ", ".join(sorted(features)[:8]) or "nothing"
    raise ValueError(f"it has no pictures under {_OBSERVATION}; there is {there}")


def _actions(features: Mapping[str, Values], steps: int) -> npt.NDArray[np.float64]:
    """float64 [steps, numbers]; parts under names of their own follow each other by name."""
    parts = sorted(name for name in features if name.startswith("steps/action/"))
    names = ["steps/action"] if "steps/action" in features else parts
    columns = []
    for name in names:
        values = features[name]
        if isinstance(values, list) or not len(values) or len(values) % steps:
            raise ValueError(f"{name} has {len(values)} values, which are no numbers of {steps} steps")
        columns.append(values.astype(np.float64).reshape(steps, -1))
    if not columns:
        raise ValueError("it has no steps/action")
    actions = np.concatenate(columns, axis=1)
    if not np.isfinite(actions).all():
        raise ValueError("an action is no finite number")
    return actions


def _words(features: Mapping[str, Values]) -> str:
    for name in _WORDS:
        values = features.get(name)
        if isinstance(values, list) and values and (words := values[0].decode(errors="replace").strip()):
            return words
    return "Act."
