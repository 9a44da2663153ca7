"""Folders of published weights: their tensors, and a network filled with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from reelmill.errors import WeightsError
from reelmill.tokenize.vision.architectures import build
from reelmill.tokenize.vision.config import TokenizerConfig
from reelmill.tokenize.vision.convolution import freeze
from reelmill.tokenize.vision.model import TokenizerModel

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


def weight_map(folder: Path) -> dict[str, str]:
    """Name of every tensor of the folder, and the file that holds it."""
    if (folder / INDEX_FILE).is_file():
        listed = read_json(folder / INDEX_FILE).get("weight_map")
        if not isinstance(listed, dict) or not all(Path(str(file)).name == file for file in listed.values()):
            raise WeightsError(f"{folder / INDEX_FILE}: weight_map must give a file of the same folder for each tensor")
        return listed
    if not (folder / WEIGHTS_FILE).is_file():
        raise WeightsError(
            f"{folder} has neither {WEIGHTS_FILE} nor {INDEX_FILE}. Download the whole repository, for example: "
            "hf download BAAI/Emu3-VisionTokenizer --local-dir FOLDER. Pickled weights (.bin, .pt) are never loaded"
        )
    return dict.fromkeys(names_in(folder / WEIGHTS_FILE), WEIGHTS_FILE)


def names_in(file: Path) -> list[str]:
    """Names of the tensors of a file."""
    with open_file(file) as opened:
        return list(opened.keys())


def owned(tensor: Tensor) -> Tensor:
    """A float32 copy (integers stay), channels last, which is what `freeze` wants: a tensor that is read shares the
    memory of its whole file."""
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return torch.empty_like(tensor, dtype=kind, memory_format=layout).copy_(tensor)


def fill(config: TokenizerConfig, tensors: dict[str, Tensor], place: Path) -> TokenizerModel:
    """The network of a configuration with these weights, for inference; WeightsError where they do not fit."""
    with torch.device("meta"):
        model = build(config)
    wanted = model.state_dict()
    # Counters of BatchNorm's training steps, which older files lack, do not matter here.
    missing = sorted(name for name in wanted.keys() - tensors.keys() if not name.endswith("num_batches_tracked"))
    unexpected = sorted(tensors.keys() - wanted.keys())
    shapes = [name for name in wanted.keys() & tensors.keys() if wanted[name].shape != tensors[name].shape]
    if missing or unexpected or shapes:
        raise WeightsError(
            f"{place} does not fit its configuration; missing {missing[:5]} ({len(missing)}), unexpected "
            f"{unexpected[:5]} ({len(unexpected)}), of another shape {sorted(shapes)[:5]} ({len(shapes)})"
        )
    model.load_state_dict(tensors, assign=True)
    freeze(model)
    return model


def open_file(file: Path) -> Any:
    """A safetensors file, opened; WeightsError where it is missing or damaged."""
    if not file.is_file():
        raise WeightsError(f"{file} is missing: the download is incomplete")
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise WeightsError(f"{file} is damaged or not a safetensors file: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; WeightsError where it is missing or none."""
    if not path.is_file():
        raise WeightsError(f"{path} is missing: give a folder with config.json and {WEIGHTS_FILE}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise WeightsError(f"{path} must hold a JSON object")
    return data
