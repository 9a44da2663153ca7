"""What a studio draws with, from a checkpoint or from a folder as Hugging Face lays it out."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from reelmill.errors import ConfigError, DataError
from reelmill.tokenize.vision import VisionTokenizer, load, load_by_fingerprint
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.checkpoint import find, load_decoder
from reelmill.train.hub import read_model
from reelmill.train.model import Decoder


class Opened(NamedTuple):
    """A decoder, its vocabulary, the vision tokenizer of its codes, and the longest row that it was trained on."""

    model: Decoder
    vocab: Vocabulary
    vision: VisionTokenizer
    context: int


def is_published(place: Path) -> bool:
    """Whether it is a folder as Hugging Face lays it out: Emu3's own, or what `reelmill export` wrote."""
    return (place / "config.json").is_file()


def found_model(place: Path) -> Path:
    """What a studio opens: a folder as Hugging Face lays it out, a checkpoint, or the last one of a run."""
    return place if is_published(place) else found_checkpoint(place)


def found_checkpoint(place: Path) -> Path:
    """The checkpoint that `place` is, or the last one of the run that it is."""
    found = find(place)
    if found is None:
        raise DataError(f"{place} is neither a checkpoint nor a training run with one; see `reelmill train --help`")
    return found


def opened(place: Path, tokenizer: str | None) -> Opened:
    """All of a checkpoint or published folder, on CUDA in bfloat16 where there is any (under torchrun on the process's
    own), else on the CPU in float32.

    A checkpoint knows its vision tokenizer, and `tokenizer` names it where it is no shipped one; a published folder
    does not. Raises ConfigError where it has to be named, DataError where it is another, WeightsError for damaged
    weights.
    """
    found = _published(place, tokenizer) if is_published(place) else _checkpoint(place, tokenizer)
    if not torch.cuda.is_available():
        return found
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    torch.cuda.set_device(device)
    vision = VisionTokenizer(found.vision.model, found.vision.name, replace(found.vision.run, device=device))
    return found._replace(model=found.model.to(device, torch.bfloat16), vision=vision)


def _checkpoint(place: Path, tokenizer: str | None) -> Opened:
    model, vocab, state = load_decoder(place)
    return Opened(model, vocab, load_by_fingerprint(state.tokenizer, tokenizer), state.recipe["data"]["context"])


def _published(folder: Path, tokenizer: str | None) -> Opened:
    if tokenizer is None:
        raise ConfigError(
            f"{folder} does not say which vision tokenizer made its codes; name it (--tokenizer), which is "
            "emu3-vision-tokenizer for Emu3's own weights."
        )
    model = read_model(folder).eval()
    vocab, vision = _vocabulary(model.config.vocab_size), load(tokenizer)
    if vision.codes != vocab.codes:
        raise DataError(
            f"{folder} has {vocab.size:,} ids, of which {vocab.codes:,} are codes; {tokenizer} has {vision.codes:,}. "
            "Name the vision tokenizer that it was trained with."
        )
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    described = described.get("text_config") or described
    return Opened(model, vocab, vision, described["max_position_embeddings"])


def _vocabulary(size: int) -> Vocabulary:
    """The vocabulary of so many ids: Qwen's text and its codes, or, where these are too few for it, bytes."""
    smallest = Vocabulary("qwen", 1)
    if size >= smallest.size:
        return Vocabulary("qwen", size - smallest.vision_start)
    return Vocabulary("bytes", size - Vocabulary("bytes", 1).vision_start)
