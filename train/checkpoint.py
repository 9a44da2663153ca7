"""Checkpoints: torch's distributed checkpoints in safetensors (no pickle), visible whole or not at all.

    FOLDER/step-000400/model/*.safetensors      each rank's shards, float32
    FOLDER/step-000400/optimizer/*.safetensors
    FOLDER/step-000400/state.json               step, recipe, vocabulary, data fingerprint (`TrainState`)
    FOLDER/step-000400/manifest.json            SHA-256 of each of these files (`manifest.py`), written last

A checkpoint is written as `step-000400.tmp`, flushed to disk and renamed (`saver.py`); a run killed at any moment
leaves the last complete one. It can be loaded by any number of ranks, split in any way.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh

from reelmill import config as configuration
from reelmill.errors import ConfigError, DataError
from reelmill.os_errors import os_failure
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.manifest import damage
from reelmill.train.model import Decoder, ModelConfig
from reelmill.train.shared_layers import decoder_to_fill, keep_own

_NAME = re.compile(r"step-(\d{6,})")
_RETIRED = {"checkpoint_every"}
"""Recipe keys of earlier versions that did not affect the results of a run."""
_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


Parts = dict[str, dict[str, Tensor]]
"""Tensors by name, grouped by the folder of the checkpoint that holds them."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """The state of a run except its tensors. Random numbers follow from the recipe's seed and the step."""

    step: int
    recipe: dict[str, Any]
    """The effective recipe."""
    data: str
    """Fingerprint of the training data. With the seed and the step, it determines the loader's position."""
    version: str


@dataclass(frozen=True, kw_only=True)
class TrainState(RunState):
    """The state of a decoder's training."""

    vocabulary: str
    """`Vocabulary.to_json`."""
    tokenizer: str
    """Fingerprint of the vision tokenizer that made the codes."""
    tokens: int = 0
    """Predictions trained on so far."""
    learned: list[str] | None = None
    """What its documents teach (`data/subjects.py`), and those of the run it started from; None: not known."""
    spikes: dict[str, Any] = field(default_factory=dict)
    """Batches left out, and what later steps are compared with (`spikes.py`); empty where neither was asked for."""


State = TypeVar("State", bound=RunState)


def latest(folder: Path) -> Path | None:
    """The complete checkpoint with the highest step, or None."""
    return next(reversed(complete(folder).values()), None)


def complete(folder: Path) -> dict[int, Path]:
    """The complete checkpoints in a folder by step, oldest first. A folder without a state file is not a checkpoint."""
    return {step: path for step, path in _steps(folder).items() if (path / "state.json").is_file()}


def incomplete(folder: Path) -> list[Path]:
    """Step folders that hold files but no state file: they once were checkpoints."""
    return [path for path in _steps(folder).values() if not (path / "state.json").is_file() and any(path.iterdir())]


def _steps(folder: Path) -> dict[int, Path]:
    found = {int(match[1]): path for path in folder.glob("step-*") if (match := _NAME.fullmatch(path.name))}
    return dict(sorted((step, path) for step, path in found.items() if path.is_dir()))


def find(place: Path) -> Path | None:
    """`place` itself if it is a checkpoint, the last checkpoint if it is a training run, else None."""
    return place if (place / "state.json").is_file() else latest(place / "checkpoints")


def read_state(checkpoint: Path) -> TrainState:
    """The state of a decoder's checkpoint; DataError if the folder is not one."""
    return read_state_as(TrainState, checkpoint)


def read_state_as(kind: type[State], checkpoint: Path) -> State:
    """The state of a checkpoint of this kind of run; DataError if the folder is not one."""
    path = checkpoint / "state.json"
    if not path.is_file():
        raise DataError(f"{checkpoint} has no state.json; a checkpoint is a folder step-NNNNNN of a training run.")
    try:
        return configuration.from_dict(kind, json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); use an earlier checkpoint.") from error
    except ConfigError as error:
        raise DataError(f"{checkpoint} is a checkpoint of another kind of run ({error}).") from error


def check_same_run(state: RunState, recipe: Any, defaults: Any, data: str, checkpoint: Path) -> str:
    """Raise ConfigError if a recipe (its dataclass) or its data differ from those that the checkpoint was trained with.

    Fields that do not affect the results, except through the order of sums, may differ (`config.free`). A run that has
    made all of its steps goes on with more; returns what to say about that, or nothing. A key that the checkpoint's
    version lacked counts as its value in `defaults`. A table that the recipe lacks belongs to an objective that it does
    not use.
    """
    now = configuration.identity(recipe)
    before = configuration.identity(_merged(configuration.to_dict(defaults), state.recipe), type(recipe))
    before = {key: value for key, value in before.items() if key in now or not isinstance(value, Mapping)}
    planned = before.get("steps", recipe.steps)  # a vision tokenizer may have any number
    goes_on = planned <= state.step and planned < recipe.steps
    if goes_on:
        before["steps"] = now["steps"]
    changed = [line for line in configuration.differences(before, now) if line.partition(":")[0] not in _RETIRED]
    if data != state.data:
        changed.append("the training data")
    if changed:
        raise ConfigError(
            f"{checkpoint} was trained otherwise; changed since: {'; '.join(changed)}. Go on with the old settings and "
            "data, or train into another folder."
        )
    schedule = f"the learning rate is from here on that of a run of {recipe.steps:,}"
    return f", which was whole at {planned:,} steps; it goes on, and {schedule}" if goes_on else ""


def _merged(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, with missing keys of the tables filled in from the defaults."""
    merged = {**defaults, **values}
    for key, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(values.get(key), Mapping):
            merged[key] = _merged(default, values[key])
    return merged


def load_weights(folder: Path, model: nn.Module) -> None:
    """Load a model, sharded or not, from a checkpoint folder. All ranks call this together."""
    load_tensors(dict(model.state_dict()), folder)


def load_optimizer(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load the optimizer of `model` from a checkpoint folder. All ranks call this together."""
    tensors = optimizer_tensors(model, optimizer)
    load_tensors(tensors, folder)
    state: dict[str, Any] = {**get_optimizer_state_dict(model, optimizer, options=_FLAT), **tensors}
    set_optimizer_state_dict(model, optimizer, state, options=_FLAT)


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors by name, created if no step was made yet. Its settings come from the recipe."""
    is_new = not optimizer.state
    state: dict[str, Any] = dict(get_optimizer_state_dict(model, optimizer, options=_FLAT))
    if is_new:  # torch created them by a step that changes nothing, and counted it
        for values in optimizer.state.values():
            values["step"].zero_()
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def load_decoder(
    checkpoint: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    mesh: DeviceMesh | None = None,
) -> tuple[Decoder, Vocabulary, TrainState]:
    """The model of a checkpoint in evaluation mode, whole, or shared by the ranks of a mesh (`shared_layers.py`), who
    all call this. DataError for a damaged one.

    Tensors are read one at a time, straight to the device: host memory never holds more than one extra tensor.
    """
    if problems := damage(checkpoint, "model", "state.json"):
        raise DataError(f"{checkpoint} is damaged ({'; '.join(problems[:3])}); use another checkpoint of its run.")
    state = read_state(checkpoint)
    model = decoder_to_fill(configuration.from_dict(ModelConfig, state.recipe["model"]), device, dtype, mesh).eval()
    load_tensors(dict(model.state_dict()), checkpoint / "model", no_dist=mesh is None)
    if mesh is not None:
        keep_own(model, mesh)
    return model, Vocabulary.from_json(state.vocabulary), state


def load_tensors(tensors: dict[str, Tensor], folder: Path, *, no_dist: bool = False) -> None:
    """Load tensors by name from a folder of safetensors: each rank its own slices, or all of them with `no_dist`.

    DataError if a tensor is missing, truncated or has another shape.
    """
    with warnings.catch_warnings():
        # torch warns about every load outside a process group, which is intended here.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            state_dict_loader.load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=no_dist)
        except (CheckpointException, AssertionError, LookupError, ValueError, SafetensorError) as error:
            cause = _cause(error)
            if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
                raise os_failure(cause, f"cannot read {folder}") from error
            said = f"{type(cause).__name__}: {str(cause).partition(chr(10))[0]}"
            raise DataError(f"{folder} cannot be loaded ({said}); use another checkpoint.") from error


def _cause(error: BaseException) -> BaseException:
    """The cause of an error that may hold the tracebacks of all ranks."""
    if isinstance(error, CheckpointException) and error.failures:
        return next(iter(error.failures.values()))[0]
    return error
