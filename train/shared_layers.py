"""A decoder whose layers several ranks compute together, to generate with: each has some heads and a part of the MLP
(Shoeybi et al., arXiv 1909.08053, section 3).

A layer's two sums over the ranks make the hidden states the same on all of them, to the bit, so every rank draws the
same tokens from its own copy of the random streams, and nothing else is said between them. Norms, embedding and head
are on every rank. Unlike training's (`parallel/tensor.py`), the parameters are plain tensors: a step of one token has
hardly more work than a DTensor's bookkeeping.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from reelmill.errors import ConfigError
from reelmill.train.model import Decoder, ModelConfig, empty_decoder

_ROWS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
_COLUMNS = ("self_attn.o_proj", "mlp.down_proj")


def empty_shared_decoder(
    config: ModelConfig, device: torch.device | str, dtype: torch.dtype, mesh: DeviceMesh
) -> Decoder:
    """A decoder with uninitialized weights, of whose layers each rank of a 1-D `mesh` has its part.

    The parts are DTensors, so that loading reads them alone; `keep_own` makes them ready. Raises ConfigError for sizes
    that cannot be shared.
    """
    ranks = mesh.size()
    for name in ("heads", "kv_heads", "mlp"):
        if getattr(config, name) % ranks:
            raise ConfigError(
                f"the model's {name}, {getattr(config, name):,}, cannot be shared by {ranks} ranks (--tensor); take a "
                "number that divides it."
            )
    if config.vertical_layers:
        raise ConfigError("a model with a second head (model.vertical_layers) is drawn on one GPU; leave --tensor out.")
    with torch.device("meta"):
        model = Decoder(config).to(dtype)
    for layer in model.layers:
        for names, side in ((_ROWS, 0), (_COLUMNS, 1)):
            for name in names:
                linear = layer.get_submodule(name)
                assert isinstance(linear, nn.Linear)
                part = distribute_tensor(linear.weight, mesh, [Shard(side)], src_data_rank=None)
                linear.weight = nn.Parameter(part)
    return model.to_empty(device=device)


def decoder_to_fill(
    config: ModelConfig, device: torch.device | str, dtype: torch.dtype, mesh: DeviceMesh | None
) -> Decoder:
    """A decoder with uninitialized weights, whole, or with a mesh shared."""
    return empty_decoder(config, device, dtype) if mesh is None else empty_shared_decoder(config, device, dtype, mesh)


def keep_own(model: Decoder, mesh: DeviceMesh) -> None:
    """Make a loaded decoder of `empty_shared_decoder` compute with this rank's part, and sum over the ranks."""
    group = mesh.get_group()

    def sum_over_ranks(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        dist.all_reduce(output, group=group)
        return output

    for layer in model.layers:
        for name in (*_ROWS, *_COLUMNS):
            linear = layer.get_submodule(name)
            assert isinstance(linear.weight, DTensor)
            linear.weight = nn.Parameter(linear.weight.to_local())
        for name in _COLUMNS:
            layer.get_submodule(name).register_forward_hook(sum_over_ranks)
    sizes, ranks = model.config, mesh.size()
    # Of the rank's own heads: the cache holds their keys and values alone.
    model.config = replace(
        sizes, head_dim=sizes.head_size, heads=sizes.heads // ranks, kv_heads=sizes.kv_heads // ranks
    )
