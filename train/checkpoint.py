"""Checkpoints: torch's distributed checkpoints in safetensors (no pickle), visible whole or not at all.

    FOLDER/step-000400/model/*.safetensors      each rank's shards, float32
    FOLDER/step-000400/optimizer/*.safetensors
    FOLDER/step-000400/state.json               step, recipe, vocabulary, data fingerprint (`TrainState`)

A checkpoint is written as `step-000400.tmp`, flushed to disk and renamed; a run killed at any moment leaves the last
complete one. It can be loaded by any number of ranks.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from reelmill import config as configuration
from reelmill.errors import ConfigError, DataError
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder, ModelConfig
from reelmill.train.parallel import Ranks

_NAME = re.compile(r"step-(\d{6,})")
_FREE = {"device", "data.micro_rows", "checkpoint_every", "validate_every", "validate_rows"}
_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """All of a run but its tensors; random numbers follow from the recipe's seed and the step."""

    step: int
    recipe: dict[str, Any]
    """The effective recipe."""
    vocabulary: str
    """`Vocabulary.to_json`."""
    tokenizer: str
    """Fingerprint of the vision tokenizer that made the codes."""
    data: str
    """Fingerprint of the training documents: with the seed and the step it is the loader's whole position."""
    version: str


def save(folder: Path, state: TrainState, model: Decoder, optimizer: torch.optim.Optimizer, ranks: Ranks) -> Path:
    """Write the checkpoint of `state.step` into `folder`, from all ranks together; returns its path."""
    final = folder / f"step-{state.step:06d}"
    temporary = final.with_name(f"{final.name}.tmp")
    if ranks.is_first:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    ranks.wait()
    parts = {"model": model.state_dict(), "optimizer": _optimizer_tensors(model, optimizer)}
    for name, tensors in parts.items():
        state_dict_saver.save(
            tensors, storage_writer=HuggingFaceStorageWriter(str(temporary / name), save_distributed=True)
        )
    if ranks.is_first:
        (temporary / "state.json").write_text(json.dumps(vars(state), indent=2), encoding="utf-8")
        for path in (temporary / "state.json", temporary / "model", temporary / "optimizer", temporary):
            _sync(path)
        temporary.rename(final)
        _sync(folder)
    ranks.wait()
    return final


def latest(folder: Path) -> Path | None:
    """The complete checkpoint of the highest step, or None."""
    complete = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)]
    return max(complete, key=lambda path: int(path.name.removeprefix("step-")), default=None)


def read_state(checkpoint: Path) -> TrainState:
    """The state of a checkpoint; DataError where the folder is none."""
    path = checkpoint / "state.json"
    if not path.is_file():
        raise DataError(f"{checkpoint} has no state.json; a checkpoint is a folder step-NNNNNN of a training run.")
    try:
        return configuration.from_dict(TrainState, json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); use an earlier checkpoint.") from error


def check_same_run(state: TrainState, recipe: dict[str, Any], data: str, checkpoint: Path) -> None:
    """Raise ConfigError where a recipe or its data are not those that the checkpoint was trained with.

    What changes no number of the run may differ (`_FREE`).
    """
    changed = [line for line in configuration.differences(state.recipe, recipe) if line.partition(":")[0] not in _FREE]
    if data != state.data:
        changed.append("the training documents")
    if changed:
        raise ConfigError(
            f"{checkpoint} was trained otherwise; changed since: {'; '.join(changed)}. Go on with the old settings and "
            "data, or train into another folder."
        )


def load(checkpoint: Path, model: Decoder, optimizer: torch.optim.Optimizer) -> None:
    """Fill a sharded model and its optimizer from a checkpoint, on all ranks together."""
    _read(checkpoint / "model", dict(model.state_dict()))
    tensors = _optimizer_tensors(model, optimizer)
    _read(checkpoint / "optimizer", tensors)
    whole: dict[str, Any] = {**get_optimizer_state_dict(model, optimizer, options=_FLAT), **tensors}
    set_optimizer_state_dict(model, optimizer, whole, options=_FLAT)


def load_decoder(checkpoint: Path) -> tuple[Decoder, Vocabulary, TrainState]:
    """The model of a checkpoint alone, whole, float32, on the CPU, in evaluation mode."""
    state = read_state(checkpoint)
    model = Decoder(configuration.from_dict(ModelConfig, state.recipe["model"])).eval()
    _read(checkpoint / "model", dict(model.state_dict()), no_dist=True)
    return model, Vocabulary.from_json(state.vocabulary), state


def _read(folder: Path, tensors: dict[str, Tensor], *, no_dist: bool = False) -> None:
    with warnings.catch_warnings():
        # Said of every load outside a process group, where it is what was asked for.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        state_dict_loader.load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=no_dist)


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors by name, made if there was no step yet; its settings follow from the recipe."""
    state: dict[str, Any] = dict(get_optimizer_state_dict(model, optimizer, options=_FLAT))
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
