"""Emu3.5's published tokenizer: `BAAI/Emu3.5-VisionTokenizer`, and others of its kind.

A folder holds `model.safetensors` or `model.ckpt`. The weights alone determine the network, so neither the config.yaml
beside them nor the class that wrote them is needed.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from reelmill.errors import ConfigError, WeightsError
from reelmill.tokenize.vision.ibq import IBQConfig
from reelmill.tokenize.vision.published_files import INDEX_FILE, WEIGHTS_FILE, open_file, owned, weight_map

CHECKPOINT = "model.ckpt"
_BOOK = "quantize.embedding.weight"
_PARTS = ("encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv.")


def is_one(folder: Path) -> bool:
    """Whether a folder holds such a tokenizer: convolutions of frames on both sides of the codebook."""
    if (folder / WEIGHTS_FILE).is_file() or (folder / INDEX_FILE).is_file():
        return any(re.search(r"(^|\.)post_quant_conv\.weight$", name) for name in weight_map(folder))
    return (folder / CHECKPOINT).is_file()


def read(folder: Path) -> tuple[IBQConfig, dict[str, Tensor]]:
    """The configuration and the tensors of a folder, under our names, floats as float32.

    Weights of training (a loss's, an average's) are left out. Raises WeightsError where it is no such tokenizer.
    """
    stored = _safetensors(folder) if not (folder / CHECKPOINT).is_file() else _checkpoint(folder / CHECKPOINT)
    book = next((name for name in stored if name.endswith(_BOOK)), None)
    if book is None:
        raise WeightsError(f"{folder} has no {_BOOK}; it is no tokenizer with index backpropagation")
    before = book.removesuffix(_BOOK)
    ours = {name.removeprefix(before): tensor for name, tensor in stored.items() if name.startswith(before)}
    tensors = {name: owned(tensor) for name, tensor in ours.items() if name.startswith(_PARTS)}
    try:
        return _config(tensors), tensors
    except KeyError as error:
        raise WeightsError(f"{folder} lacks the weight {error}; it is no tokenizer of this kind") from error
    except ConfigError as error:
        raise WeightsError(f"{folder}: {error}") from error


def _config(tensors: dict[str, Tensor]) -> IBQConfig:
    """The configuration that names and shapes imply."""
    levels = _count(tensors, r"encoder\.down\.(\d+)\.")
    channels = len(tensors["encoder.conv_in.weight"])
    widths = [len(tensors[f"encoder.down.{level}.block.0.conv1.weight"]) for level in range(levels)]
    blocks = _count(tensors, r"encoder\.down\.0\.block\.(\d+)\.")
    in_decoder = _count(tensors, r"decoder\.up\.0\.block\.(\d+)\.")
    codes, embed_dim = tensors[_BOOK].shape
    return IBQConfig(
        channels=channels,
        channel_multipliers=tuple(width // channels for width in widths),
        res_blocks=blocks,
        decoder_blocks=0 if in_decoder == blocks + 1 else in_decoder,
        attention_levels=tuple(i for i in range(levels) if f"encoder.down.{i}.attn.0.q.weight" in tensors),
        mid_attention="encoder.mid.attn_1.q.weight" in tensors,
        z_channels=len(tensors["encoder.conv_out.weight"]),
        embed_dim=embed_dim,
        codes=codes,
    )


def _count(tensors: dict[str, Tensor], pattern: str) -> int:
    return len({found[1] for name in tensors if (found := re.match(pattern, name))})


def _safetensors(folder: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    files = weight_map(folder)
    for file in sorted(set(files.values())):
        with open_file(folder / file) as opened:
            tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (not a dict)
    return tensors


def _checkpoint(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint of torch, of a training run too; nothing but tensors and plain values is loaded."""
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(f"{file} is damaged, or holds more than weights: {error}") from error
    inner = stored.get("state_dict", stored) if isinstance(stored, dict) else {}
    return {name: tensor for name, tensor in inner.items() if isinstance(tensor, Tensor)}
