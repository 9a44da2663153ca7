"""Reads and writes models in Hugging Face's layout: a folder of config.json and sharded safetensors.

    config.json                              sizes, under the names of transformers
    model-00001-of-00004.safetensors …       weights; model.safetensors.index.json says where each is

Written for the classes that compute what ours does: Emu3 (Emu3's decoder), Llama (the same with a head size of its
own), Qwen3 (RMSNorm on queries and keys, as Emu3.5 has) and Emu3.5's released class. Read from these and from Emu3's
own repositories; of a Qwen3 model the rows of text alone go into a larger vocabulary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from reelmill.errors import ConfigError, DataError, WeightsError
from reelmill.files import write_atomically, write_text
from reelmill.tokenize.layout import EMU3_5
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.checkpoint import load_tensors
from reelmill.train.model import Decoder, ModelConfig
from reelmill.train.parallel.decoder import placed_like
from reelmill.train.provenance import KEY, Training
from reelmill.train.shared_layers import decoder_to_fill, keep_own
from reelmill.train.vertical import decoder_tensors

Layout = Literal["emu3", "llama", "qwen3", "emu3.5"]
INDEX = "model.safetensors.index.json"
VOCABULARY = "reelmill_vocabulary"
"""The key of config.json under which an export states its vocabulary, and so the layout of its documents."""


@dataclass(frozen=True)
class _Class:
    """A model class of transformers."""

    name: str
    model_type: str
    has_head_dim: bool
    has_qk_norm: bool


CLASSES: dict[Layout, _Class] = {
    "emu3": _Class("Emu3ForCausalLM", "emu3_text_model", has_head_dim=False, has_qk_norm=False),
    "llama": _Class("LlamaForCausalLM", "llama", has_head_dim=True, has_qk_norm=False),
    "qwen3": _Class("Qwen3ForCausalLM", "qwen3", has_head_dim=True, has_qk_norm=True),
    # The class of Emu3.5's repository (src/emu3p5), not one of transformers.
    "emu3.5": _Class("Emu3ForCausalLM", "Emu3", has_head_dim=True, has_qk_norm=True),
}
_READABLE = {"emu3_text_model", "emu3", "Emu3", "Emu3p5", "llama", "qwen3"}
_QWEN3_IDS = 151_936
"""Rows of every Qwen3 model's tables. The first are text and three special tokens with the ids that they have here; the
others stand for other tokens than here, or for none."""
_QWEN3_ROWS = 151_643 + 3
EMU3_5_VOCABULARY = Vocabulary("qwen", 131_072, EMU3_5)
_TABLES = ("embed_tokens.weight", "lm_head.weight")
_IGNORED = re.compile(r"(^|\.)vqmodel\.|rotary_emb\.inv_freq$")
"""The vision tokenizer of a whole Emu3 model, and angles that older files store."""
_PREFIXES = ("model.text_model.", "model.language_model.", "language_model.model.", "text_model.model.", "model.")
_NAMES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "intermediate_size": "mlp",
    "rms_norm_eps": "norm_eps",
}


def layout_of(config: ModelConfig) -> Layout:
    """The layout that a model of this configuration is written in."""
    if config.qk_norm:
        return "qwen3"
    return "emu3" if config.head_size * config.heads == config.hidden else "llama"


def export_model(
    model: Decoder,
    vocab: Vocabulary,
    folder: Path,
    *,
    layout: Layout | None = None,
    dtype: torch.dtype = torch.bfloat16,
    context: int = 131_072,
    training: Training | None = None,
    shard_bytes: int = 5_000_000_000,
) -> Layout:
    """Write `model` to `folder`; returns the layout, by default the one that fits (`layout_of`).

    `context` is the longest sequence that the config states, `training` how the model came to be. Raises ConfigError
    for a layout that cannot say what the model is.
    """
    layout = layout or layout_of(model.config)
    folder.mkdir(parents=True, exist_ok=True)
    described = describe(model.config, vocab, layout, dtype, context)
    if training is not None:
        described[KEY] = training.stated
    shards = list(_shards(_named(model, dtype), shard_bytes))
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _save(shard, folder / name)
        places |= dict.fromkeys(shard, name)
    total = sum(tensor.numel() * tensor.element_size() for shard in shards for tensor in shard.values())
    write_text(folder / INDEX, json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=2))
    write_text(folder / "config.json", json.dumps(described, indent=2))
    return layout


def describe(
    config: ModelConfig, vocab: Vocabulary, layout: Layout, dtype: torch.dtype, context: int
) -> dict[str, Any]:
    """The config.json of a model."""
    target = CLASSES[layout]
    if config.qk_norm != target.has_qk_norm:
        raise ConfigError(f"{target.name} has {'' if target.has_qk_norm else 'no '}QK-norm; use {layout_of(config)}.")
    if not target.has_head_dim and config.head_size * config.heads != config.hidden:
        raise ConfigError(
            f"{target.name} has heads of hidden / heads = {config.hidden / config.heads:g}, this model of "
            f"{config.head_size}; use {layout_of(config)}."
        )
    return {
        "architectures": [target.name],
        "model_type": target.model_type,
        **(_emu3_5_fields(vocab) if layout == "emu3.5" else {}),
        **{theirs: getattr(config, ours) for theirs, ours in _NAMES.items()},
        **({"head_dim": config.head_size} if target.has_head_dim else {}),
        # Both spellings: transformers 4 reads the first, 5 the second.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": config.attention_dropout,
        "initializer_range": config.init_std,
        "tie_word_embeddings": False,
        "max_position_embeddings": context,
        "bos_token_id": vocab.bos,
        "eos_token_id": vocab.eos,
        "pad_token_id": vocab.pad,
        VOCABULARY: json.loads(vocab.to_json()),
        "dtype": str(dtype).removeprefix("torch."),
    }


def _emu3_5_fields(vocab: Vocabulary) -> dict[str, Any]:
    """The keys that the configuration of Emu3.5's released class adds to Qwen3's."""
    names = ("img", "boi", "eoi", "eol", "eof")
    return {**{f"{name}_token_id": getattr(vocab, name) for name in names}, "image_area": 518_400}


def read_config(folder: Path) -> ModelConfig:
    """The configuration of a folder's decoder; WeightsError if our decoder cannot represent it."""
    path = folder / "config.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); give a folder as Hugging Face lays it out") from error
    if found.get("model_type") not in _READABLE:
        raise WeightsError(f"{path}: model_type {found.get('model_type')!r} is none of {', '.join(sorted(_READABLE))}")
    found = {"model_type": found["model_type"], **(found.get("text_config") or found)}
    missing = sorted(_NAMES.keys() - found.keys())
    if missing:
        raise WeightsError(f"{path} lacks {', '.join(missing)}")
    rope = found.get("rope_parameters") or found.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    wrong = {
        "rope_type": kind != "default" and kind,
        "attention_bias": found.get("attention_bias"),
        "mlp_bias": found.get("mlp_bias"),
        "hidden_act": found.get("hidden_act", "silu") != "silu" and found["hidden_act"],
    }
    for field, value in wrong.items():
        if value:
            raise WeightsError(f"{path}: {field} is {value!r}, which this decoder does not have")
    return ModelConfig(
        **{ours: found[theirs] for theirs, ours in _NAMES.items()},
        head_dim=found.get("head_dim") or 0,
        rope_theta=float(rope.get("rope_theta", found.get("rope_theta", 10_000.0))),
        # Emu3.5's class has the model type of Emu3's, which has no head_dim.
        qk_norm=found["model_type"] in ("qwen3", "Emu3p5") or (found["model_type"] == "Emu3" and "head_dim" in found),
        attention_dropout=float(found.get("attention_dropout", 0.0)),
        dropout=float(found.get("attention_dropout", 0.0)) if "emu3" in str(found.get("model_type")).lower() else 0.0,
    )


def read_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of a folder's decoder: the one that it states, else what follows from the number of its ids.

    So many as Emu3.5 has are Emu3.5's, with its layout of documents; others are Qwen's text and codes in Emu3's layout,
    or bytes and codes if there are too few ids for Qwen's text.
    """
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if VOCABULARY in described:
        return Vocabulary.from_json(json.dumps(described[VOCABULARY]))
    size = read_config(folder).vocab_size
    if size == EMU3_5_VOCABULARY.size:
        return EMU3_5_VOCABULARY
    text: Literal["qwen", "bytes"] = "qwen" if size > Vocabulary("qwen", 1).vision_start else "bytes"
    return Vocabulary(text, size - Vocabulary(text, 1).vision_start)


def states_vocabulary(folder: Path) -> bool:
    """Whether a folder states the vocabulary of its decoder."""
    return VOCABULARY in json.loads((folder / "config.json").read_text(encoding="utf-8"))


def is_qwen3(folder: Path, found: ModelConfig) -> bool:
    """Whether a folder holds a model with Qwen3's own vocabulary, whose beginning is that of Emu3 and Emu3.5."""
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return bool(described["model_type"] == "qwen3" and found.vocab_size == _QWEN3_IDS)


def taken_rows(folder: Path, found: ModelConfig, vocab_size: int) -> int:
    """How many rows of a folder's tables go into a vocabulary of so many ids of Qwen's text: all, or those of a Qwen3
    model that mean the same; 0 where none can."""
    if found.vocab_size == vocab_size:
        return vocab_size
    return _QWEN3_ROWS if is_qwen3(folder, found) and vocab_size > _QWEN3_ROWS else 0


def read_model(
    folder: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    mesh: DeviceMesh | None = None,
) -> Decoder:
    """The decoder of a folder, read tensor by tensor to where it is wanted, whole, or shared by the ranks of a mesh
    (`shared_layers.py`), who all call this. Raises what `fill` raises."""
    model = decoder_to_fill(read_config(folder), device, dtype, mesh)
    fill(model, folder, no_dist=mesh is None)
    if mesh is not None:
        keep_own(model, mesh)
    return model


def fill(model: Decoder, folder: Path, *, no_dist: bool = False, rows: int | None = None) -> None:
    """Copy a folder's weights into a decoder of these sizes.

    All ranks of a sharded decoder call this, and each reads its own slices only. A full one is filled with `no_dist`.
    One tensor is read at a time, of any floating type. Of a model with a vision tokenizer the decoder is taken. With
    `rows` the two tables of the vocabulary get so many first rows, and keep the others. Raises WeightsError for
    missing, damaged or spare weights and for wrong shapes.
    """
    tensors = decoder_tensors(model)
    stored = _stored(folder)
    is_tied = "lm_head.weight" not in stored and json.loads((folder / "config.json").read_text()).get(
        "tie_word_embeddings"
    )
    if is_tied:
        stored["lm_head.weight"] = stored["embed_tokens.weight"]
    for problem, names in (
        ("lacks", tensors.keys() - stored.keys()),
        ("has spare weights:", stored.keys() - tensors.keys()),
    ):
        if names:
            raise WeightsError(
                f"{folder} {problem} {len(names)} beside the decoder's {len(tensors)}: {min(names)}, ..."
            )
    tables = _TABLES if rows is not None else ()
    for name, tensor in tensors.items():
        theirs, shape = stored[name]
        is_enough = name in tables and shape[0] >= (rows or 0) and shape[1:] == tuple(tensor.shape[1:])
        if shape != tuple(tensor.shape) and not is_enough:
            raise WeightsError(
                f"{folder}: {theirs} is {list(shape)} and does not fit the decoder's {list(tensor.shape)}; its "
                "config.json or the recipe's [model] is another model's."
            )
    apart = {*tables, *(("lm_head.weight",) if is_tied else ())}
    load_tensors(
        {stored[name][0]: tensor for name, tensor in tensors.items() if name not in apart}, folder, no_dist=no_dist
    )
    for name in tables:
        _fill_rows(tensors[name], folder, stored[name], rows or 0)
    if is_tied and not tables:
        tensors["lm_head.weight"].copy_(tensors["embed_tokens.weight"])


def _fill_rows(tensor: Tensor, folder: Path, stored: tuple[str, tuple[int, ...]], rows: int) -> None:
    """Copy the first rows of a stored table; each rank reads the whole table, and holds it once more meanwhile."""
    name, shape = stored
    table = torch.empty(shape)
    load_tensors({name: table}, folder, no_dist=True)
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()
    whole[:rows] = table[:rows].to(whole.device)
    tensor.copy_(placed_like(whole, tensor))


def _stored(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """For each weight of the decoder, and each unknown one: its name in the folder and its shape."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="pt") as opened:
                for theirs in opened.keys():  # noqa: SIM118  (not a dict)
                    if not _IGNORED.search(theirs):
                        found[_our_name(theirs)] = theirs, tuple(opened.get_slice(theirs).get_shape())
        except SafetensorError as error:
            raise WeightsError(f"{path} is damaged ({error}); bring it again") from error
    return found


def _named(model: Decoder, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in decoder_tensors(model).items():
        yield (name if name.startswith("lm_head.") else f"model.{name}"), tensor.to(dtype).contiguous()


def _our_name(name: str) -> str:
    if name.endswith("lm_head.weight"):
        return "lm_head.weight"
    prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
    return name.removeprefix(prefix)


def _shards(tensors: Iterator[tuple[str, Tensor]], most: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors:
        own = tensor.numel() * tensor.element_size()
        if shard and size + own > most:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += own
    yield shard


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    write_atomically(path, lambda temporary: save_file(dict(tensors), temporary, metadata={"format": "pt"}))


def _weight_files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise DataError(f"{index} names files outside the folder: {names}")
    else:
        names = ["model.safetensors"]
    paths = [folder / name for name in names]
    for path in paths:
        if not path.is_file():
            raise WeightsError(f"{path} is missing; bring the whole folder (safetensors only, no pickled weights)")
    return paths
