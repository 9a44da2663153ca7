"""The number types that a model's weights are kept in while it draws."""

from __future__ import annotations

import importlib.util
import logging

import torch

from reelmill.config import nearest
from reelmill.errors import ConfigError
from reelmill.train.model import Decoder

PLAIN = {"float32": torch.float32, "bfloat16": torch.bfloat16}
QUANTIZED = ("int8", "float8")
"""One byte for a weight of the layers' projections, and a scale for each row."""


def check_weights(name: str) -> None:
    """Raise ConfigError for an unknown type, or one whose package is missing."""
    if name not in (*PLAIN, *QUANTIZED):
        raise ConfigError(f"unknown type of weights {name!r}; {nearest(name, (*PLAIN, *QUANTIZED))}")
    if name in QUANTIZED and importlib.util.find_spec("torchao") is None:
        raise ConfigError(
            f'--weights {name} needs torchao: pip install "reelmill[float8]", or take {" or ".join(PLAIN)}.'
        )


def loaded_type(name: str | None, device: str) -> torch.dtype:
    """The type that weights are read in for `name`; None is bfloat16 on CUDA, float32 on a CPU."""
    return PLAIN.get(name or "", torch.float32 if device == "cpu" else torch.bfloat16)


def quantize(model: Decoder, kind: str) -> None:
    """Keep the projections of the layers in a type of `QUANTIZED`, layer by layer. Products are computed in the type of
    the activations. Embedding, norms and head stay as they are.

    Weights are rounded symmetrically with a scale for each row, whose largest value becomes 127 in `int8` and 448 in
    `float8` (e4m3).
    """
    # Importing it says which of its libraries are for other GPUs than those here, and what of torch it uses.
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    quantize_(model.layers, Int8WeightOnlyConfig() if kind == "int8" else Float8WeightOnlyConfig())
