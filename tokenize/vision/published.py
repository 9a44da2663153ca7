"""Emu3's published tokenizer (Wang et al. 2024, section 2.2): folders of config.json and safetensors, and the card.

Two layouts are read. `BAAI/Emu3-VisionTokenizer` (model type Emu3VisionVQ) holds the tokenizer alone, under the names
that this package uses too. transformers holds it as `Emu3VQVAE` under names of its own, alone or inside a whole Emu3
model, whose other tensors are not opened.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from reelmill import weights
from reelmill.errors import ConfigError, WeightsError
from reelmill.tokenize.vision.convolution import freeze
from reelmill.tokenize.vision.movq import EMU3, MoVQ, MoVQConfig

NAME = "emu3-vision-tokenizer"
"""The card of the published weights."""

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_FIELDS = {
    "codebook_size": "codes",
    "embed_dim": "embed_dim",
    "z_channels": "z_channels",
    "latent_channels": "z_channels",
    "ch": "channels",
    "base_channels": "channels",
    "ch_mult": "channel_multipliers",
    "channel_multiplier": "channel_multipliers",
    "num_res_blocks": "res_blocks",
    "attn_resolutions": "attention_levels",
    "temporal_downsample_factor": "temporal_factor",
}
"""Fields of config.json, in Emu3's and transformers' names, and ours. What is left out is as in Emu3."""
_LISTS = {"channel_multipliers", "attention_levels"}
_FIXED = {"in_channels": 3, "out_channels": 3, "double_z": False, "double_latent": False, "num_attention_heads": 1}
"""Fields that allow one value here. Dropout may have any: it is off outside training."""

_RENAMED = [
    (r"^(.*\.)?vqmodel\.", ""),
    (r"\b(down|up)_block\.", ""),
    (r"\bmiddle_block\.attn_norm\b", "mid.attn_1.norm"),
    (r"\bmiddle_block\b", "mid"),
    (r"\battn_norms\.(\d+)", r"attn.\1.norm"),
    (r"\b([qkv])_proj\b", r"\1"),
    (r"\bout_proj\b", "proj_out"),
]


def read(place: str | Path) -> tuple[MoVQ, str]:
    """The model in folder `place`, or that of the card when `place` is `NAME`, for inference; and its name.

    A folder is named by its last part. Raises WeightsError when a file is missing, damaged or pickled, config.json
    describes what this package cannot build (the field is named), or the tensors do not fit it.
    """
    if str(place) == NAME:
        file = weights.path(NAME)
        return _build(EMU3, _tensors(file.parent, dict.fromkeys(_names(file), file.name)), file), NAME
    folder = Path(place)
    config = read_config(folder / "config.json")
    return _build(config, _tensors(folder, _weight_map(folder)), folder), folder.resolve().name


def read_config(path: Path) -> MoVQConfig:
    """The tokenizer that a config.json of either layout, or of a whole Emu3 model of transformers, describes.

    Raises WeightsError when the file is missing or not JSON, or a field has a value that cannot be expressed here.
    """
    data = _read_json(path)
    kind = data.get("model_type")
    if kind == "emu3":
        data = data.get("vq_config") or {}
    if kind not in {"Emu3VisionVQ", "emu3_vqgan", "emu3"}:
        raise WeightsError(
            f"{path}: model_type is {kind!r}; allowed: 'Emu3VisionVQ' (Emu3-VisionTokenizer), 'emu3_vqgan' or 'emu3' "
            "(transformers). Emu3's language models ('Emu3') hold no vision tokenizer"
        )
    for field, allowed in _FIXED.items():
        if data.get(field, allowed) != allowed:
            raise WeightsError(f"{path}: {field} is {data[field]!r}; only {allowed!r} can be loaded")
    given = {ours: _value(path, theirs, ours, data[theirs]) for theirs, ours in _FIELDS.items() if theirs in data}
    try:
        config = MoVQConfig(**given)
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from error
    width = config.channels * config.channel_multipliers[-1]
    if kind != "Emu3VisionVQ" and data.get("hidden_size", 1024) != width:
        raise WeightsError(
            f"{path}: hidden_size, the width of attention, is {data.get('hidden_size', 1024)!r}; it must be that of "
            f"the last level, {width}"
        )
    return config


def our_name(name: str) -> str:
    """A tensor's name in this package, from its name in either layout (Emu3's are ours)."""
    for pattern, ours in _RENAMED:
        name = re.sub(pattern, ours, name)
    return name


def _value(path: Path, field: str, ours: str, value: Any) -> Any:
    numbers = value if isinstance(value, list) else [value]
    if isinstance(value, list) != (ours in _LISTS) or not all(type(number) is int for number in numbers):
        wanted = "a list of whole numbers" if ours in _LISTS else "a whole number"
        raise WeightsError(f"{path}: {field} is {value!r}; it must be {wanted}")
    return tuple(value) if ours in _LISTS else value


def _weight_map(folder: Path) -> dict[str, str]:
    """Name of every tensor of the folder, and the file that holds it."""
    if (folder / INDEX_FILE).is_file():
        listed = _read_json(folder / INDEX_FILE).get("weight_map")
        if not isinstance(listed, dict) or not all(Path(str(file)).name == file for file in listed.values()):
            raise WeightsError(f"{folder / INDEX_FILE}: weight_map must give a file of the same folder for each tensor")
        return listed
    if not (folder / WEIGHTS_FILE).is_file():
        raise WeightsError(
            f"{folder} has neither {WEIGHTS_FILE} nor {INDEX_FILE}. Download the whole repository, for example: "
            "hf download BAAI/Emu3-VisionTokenizer --local-dir FOLDER. Pickled weights (.bin, .pt) are never loaded"
        )
    return dict.fromkeys(_names(folder / WEIGHTS_FILE), WEIGHTS_FILE)


def _names(file: Path) -> list[str]:
    with _open(file) as opened:
        return list(opened.keys())


def _tensors(folder: Path, weight_map: dict[str, str]) -> dict[str, Tensor]:
    """The tokenizer's tensors under our names, floats as float32; of a whole model only its `vqmodel` part."""
    part = {name for name in weight_map if re.search(r"(^|\.)vqmodel\.", name)} or set(weight_map)
    by_file: dict[str, list[str]] = defaultdict(list)
    for name in sorted(part):
        by_file[weight_map[name]].append(name)
    tensors: dict[str, Tensor] = {}
    for file, names in by_file.items():
        with _open(folder / file) as opened:
            for name in names:
                tensors[our_name(name)] = _ours(our_name(name), opened.get_tensor(name))
    return tensors


def _ours(name: str, tensor: Tensor) -> Tensor:
    # transformers projects by linear layers what are 1x1 convolutions in Emu3's own code.
    if re.search(r"\battn\w*\..*weight$", name) and tensor.ndim == 2:
        tensor = tensor[:, :, None, None]
    # A copy, for a tensor that is read shares the memory of its whole file. Channels last is what `freeze` wants.
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return torch.empty_like(tensor, dtype=kind, memory_format=layout).copy_(tensor)


def _build(config: MoVQConfig, tensors: dict[str, Tensor], place: Path) -> MoVQ:
    with torch.device("meta"):
        model = MoVQ(config)
    wanted = model.state_dict()
    # Counters of BatchNorm's training steps, which older files lack, say nothing here.
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


def _open(file: Path) -> Any:
    if not file.is_file():
        raise WeightsError(f"{file} is missing: the download is incomplete")
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise WeightsError(f"{file} is damaged or not a safetensors file: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise WeightsError(f"{path} is missing: give a folder with config.json and {WEIGHTS_FILE}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise WeightsError(f"{path} must hold a JSON object")
    return data
