"""float8 products by torchao."""

from __future__ import annotations

import importlib.util

import torch

from reelmill.errors import ConfigError
from reelmill.train.model import Decoder

_LEAST = (8, 9)
"""Compute capability of the first GPUs with float8 products (Ada; Hopper is 9.0)."""


def use_float8(model: Decoder, device: torch.device) -> None:
    """Make the projections of the layers compute in float8; embedding and head stay unchanged.

    Raises ConfigError if the device lacks float8 or torchao is missing.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _LEAST:
        found = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
        raise ConfigError(
            f"parallel.float8 needs a CUDA device of compute capability {_LEAST[0]}.{_LEAST[1]} or more (Ada, Hopper "
            f"or newer), and this is {found}; set it to false."
        )
    if importlib.util.find_spec("torchao") is None:
        raise ConfigError('parallel.float8 needs torchao: pip install "reelmill[float8]", or set it to false.')
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    # FSDP gathers weights in float8 too: half the bytes of bfloat16.
    convert_to_float8_training(model.layers, config=Float8LinearConfig(enable_fsdp_float8_all_gather=True))
