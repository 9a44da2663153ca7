"""Loads a model to generate with: from a training run, a checkpoint, or a folder in Hugging Face's layout."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch.distributed.device_mesh import DeviceMesh

from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation.weight_types import QUANTIZED, loaded_type, quantize
from reelmill.tokenize.vision import VisionTokenizer, load_by_fingerprint
from reelmill.tokenize.vision import load as vision_tokenizer
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import checkpoint
from reelmill.train.hub import read_model, read_vocabulary, states_vocabulary
from reelmill.train.model import Decoder
from reelmill.train.provenance import Training


class LoadedModel(NamedTuple):
    """A decoder, its vocabulary, the vision tokenizer of its codes, and the longest row that it was trained on."""

    model: Decoder
    vocab: Vocabulary
    vision: VisionTokenizer
    context: int


def is_hf_folder(folder: Path) -> bool:
    """Whether a folder has Hugging Face's layout, as Emu3's own weights and the output of `reelmill export` have."""
    return (folder / "config.json").is_file()


def find_model(folder: Path) -> Path:
    """The folder that holds the weights: a Hugging Face folder, a checkpoint, or the last checkpoint of a training run.

    Raises DataError if `folder` is none of these.
    """
    found = folder if is_hf_folder(folder) else checkpoint.find(folder)
    if found is None:
        raise DataError(
            f"{folder} is no model: it has no config.json (Hugging Face folder), no state.json (checkpoint) and no "
            "checkpoints/step-NNNNNN (training run); see `reelmill train --help`"
        )
    return found


def never_drew_unprompted(place: Path) -> bool:
    """Whether a model was trained from nothing and never without captions or questions: guidance, which goes away
    from what is drawn without a prompt, then goes astray. False where that is not known."""
    training = Training.of(place)
    return training is not None and not (training.is_begun or training.drew_unprompted)


def load_decoder(
    folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32, mesh: DeviceMesh | None = None
) -> tuple[Decoder, Vocabulary]:
    """The decoder and vocabulary of any folder that `find_model` finds, in evaluation mode; with a `mesh` shared by its
    ranks."""
    place = find_model(folder)
    if not is_hf_folder(place):
        model, vocab, _ = checkpoint.load_decoder(place, device, dtype, mesh=mesh)
        return model, vocab
    return read_model(place, device, dtype, mesh=mesh).eval(), read_vocabulary(place)


def load_model(
    folder: Path, tokenizer: str | None = None, mesh: DeviceMesh | None = None, weights: str | None = None
) -> LoadedModel:
    """Everything of a folder that `find_model` finds: on CUDA in bfloat16 if there is a GPU (under torchrun on the
    process's own), else on the CPU in float32, or in the type `weights` (`weight_types.py`).

    With a 1-D `mesh` its ranks share the layers and all call this (`reelmill.train.shared_layers`).

    A checkpoint and an export know their vision tokenizer, and `tokenizer` names it if it is not a shipped one. Other
    Hugging Face folders do not know it. Raises ConfigError if it has to be named, DataError if it does not fit,
    WeightsError for damaged weights.
    """
    place, device = find_model(folder), "cpu"
    if torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    load = _load_hf_folder if is_hf_folder(place) else _load_checkpoint
    loaded = load(place, tokenizer, device, loaded_type(weights, device), mesh)
    if weights in QUANTIZED:
        quantize(loaded.model, weights)
    if device == "cpu":
        return loaded
    vision = VisionTokenizer(loaded.vision.model, loaded.vision.name, replace(loaded.vision.run, device=device))
    return loaded._replace(vision=vision)


def _load_checkpoint(
    place: Path, tokenizer: str | None, device: str, dtype: torch.dtype, mesh: DeviceMesh | None
) -> LoadedModel:
    model, vocab, state = checkpoint.load_decoder(place, device, dtype, mesh=mesh)
    return LoadedModel(model, vocab, load_by_fingerprint(state.tokenizer, tokenizer), state.recipe["data"]["context"])


def _load_hf_folder(
    folder: Path, tokenizer: str | None, device: str, dtype: torch.dtype, mesh: DeviceMesh | None
) -> LoadedModel:
    training = Training.of(folder)
    if training is not None:
        vision = load_by_fingerprint(training.tokenizer, tokenizer)
    elif tokenizer is not None:
        vision = vision_tokenizer(tokenizer)
    else:
        raise ConfigError(
            f"{folder} does not say which vision tokenizer made its codes; name it (--tokenizer): "
            "emu3-vision-tokenizer for Emu3's own weights."
        )
    model, vocab = load_decoder(folder, device, dtype, mesh)
    if not states_vocabulary(folder):
        vocab = replace(vocab, layout=vision.layout)
    if vision.layout != vocab.layout:
        raise DataError(
            f"{folder} writes documents of the layout {vocab.layout}, {tokenizer} has the codes of {vision.layout}'s. "
            "Name the vision tokenizer that it was trained with."
        )
    if vision.codes != vocab.codes:
        raise DataError(
            f"{folder} has {vocab.size:,} ids, of which {vocab.codes:,} are codes; {tokenizer} has {vision.codes:,}. "
            "Name the vision tokenizer that it was trained with."
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config") or config
    return LoadedModel(model, vocab, vision, config["max_position_embeddings"])
