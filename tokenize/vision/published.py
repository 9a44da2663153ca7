"""Published tokenizers: folders as they are published, and the card of Emu3's (Wang et al. 2024, section 2.2).

Emu3's comes in two forms. `BAAI/Emu3-VisionTokenizer` (model type Emu3VisionVQ) holds the tokenizer alone, under the
names that this package uses too. transformers holds it as `Emu3VQVAE` under names of its own, alone or inside a whole
Emu3 model, whose other tensors are not opened. Emu3.5's folders are read by `published_ibq.py`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from torch import Tensor

from reelmill import weights
from reelmill.errors import ConfigError, WeightsError
from reelmill.tokenize.vision import published_ibq
from reelmill.tokenize.vision.model import TokenizerModel
from reelmill.tokenize.vision.movq import EMU3, MoVQConfig
from reelmill.tokenize.vision.published_files import fill, names_in, open_file, owned, read_json, weight_map

NAME = "emu3-vision-tokenizer"
"""The card of the published weights."""

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


def read(place: str | Path) -> tuple[TokenizerModel, str]:
    """The model in folder `place`, or that of the card when `place` is `NAME`, for inference; and its name.

    A folder is named by its last part. Raises WeightsError when a file is missing, damaged or pickled, config.json
    describes what this package cannot build (the field is named), or the tensors do not fit it.
    """
    if str(place) == NAME:
        file = weights.path(NAME)
        return fill(EMU3, _tensors(file.parent, dict.fromkeys(names_in(file), file.name)), file), NAME
    folder = Path(place)
    if published_ibq.is_one(folder):
        return fill(*published_ibq.read(folder), folder), folder.resolve().name
    config = read_config(folder / "config.json")
    return fill(config, _tensors(folder, weight_map(folder)), folder), folder.resolve().name


def read_config(path: Path) -> MoVQConfig:
    """The tokenizer that a config.json of either layout, or of a whole Emu3 model of transformers, describes.

    Raises WeightsError when the file is missing or not JSON, or a field has a value that cannot be expressed here.
    """
    data = read_json(path)
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


def _tensors(folder: Path, files: dict[str, str]) -> dict[str, Tensor]:
    """The tokenizer's tensors under our names, floats as float32; of a whole model only its `vqmodel` part."""
    part = {name for name in files if re.search(r"(^|\.)vqmodel\.", name)} or set(files)
    by_file: dict[str, list[str]] = defaultdict(list)
    for name in sorted(part):
        by_file[files[name]].append(name)
    tensors: dict[str, Tensor] = {}
    for file, names in by_file.items():
        with open_file(folder / file) as opened:
            for name in names:
                tensors[our_name(name)] = _ours(our_name(name), opened.get_tensor(name))
    return tensors


def _ours(name: str, tensor: Tensor) -> Tensor:
    # transformers projects by linear layers what are 1x1 convolutions in Emu3's own code.
    if re.search(r"\battn\w*\..*weight$", name) and tensor.ndim == 2:
        tensor = tensor[:, :, None, None]
    return owned(tensor)
