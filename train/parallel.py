"""The ranks of a training run: process group, sharding by FSDP2, parameters made where they will live.

One code path: a single process is a group of one, and the CPU (gloo) runs what CUDA (NCCL) runs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from reelmill.errors import ConfigError
from reelmill.train.model import Decoder, ModelConfig, RMSNorm

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Ranks:
    """Who this process is among the run's."""

    rank: int
    size: int
    device: torch.device
    mesh: DeviceMesh

    @property
    def is_first(self) -> bool:
        """Whether this process writes the logs and the small files."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all ranks, in place."""
        dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds on some rank."""
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def gather(self, words: Sequence[str]) -> list[str]:
        """The words of all ranks, in the order of the ranks."""
        parts: list[list[str]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(parts, list(words))
        return [word for part in parts for word in part]

    def wait(self) -> None:
        """Return when every rank has come here."""
        dist.barrier()


@contextmanager
def join_ranks(device: Device = "auto") -> Iterator[Ranks]:
    """The group that torchrun describes in the environment, or a group of one; left again at the end.

    A group that there is already (Ray Train makes it) is taken, and stays. `auto` takes CUDA where there is any. Raises
    ConfigError for CUDA where there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch sees no CUDA device here; set device to cpu or auto.")
    on_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if on_cuda else torch.device("cpu")
    if on_cuda:
        torch.cuda.set_device(where)
    is_ours = not dist.is_initialized()
    if is_ours:
        _make_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo")  # flags and messages travel from host memory
    try:
        mesh = init_device_mesh(where.type, (dist.get_world_size(),))
        yield Ranks(dist.get_rank(), dist.get_world_size(), where, mesh)
    finally:
        if is_ours:
            dist.destroy_process_group()


def _make_group(backend: str) -> None:
    if "RANK" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]


def sharded_decoder(config: ModelConfig, ranks: Ranks, precision: Precision, seed: int) -> Decoder:
    """A new decoder, its parameters float32 and split over the ranks, computing in `precision`.

    It is shaped on the meta device and filled shard by shard, so that no rank ever holds the whole.
    """
    with torch.device("meta"):
        model = Decoder(config)
    # Inputs are not cast: rotary angles and token weights stay float32. Gradients are reduced in float32.
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if precision == "bfloat16" else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    for layer in model.layers:
        fully_shard(layer, mesh=ranks.mesh, mp_policy=policy)
    fully_shard(model.lm_head, mesh=ranks.mesh, mp_policy=policy)
    register_fsdp_forward_method(model.lm_head, "loss")
    fully_shard(model, mesh=ranks.mesh, mp_policy=policy)
    model.to_empty(device=ranks.device)
    initialise(model, seed)
    return model


@torch.no_grad()
def initialise(model: Decoder, seed: int) -> None:
    """Norms one, all else normal with `init_std`: the same numbers for the same seed at any number of ranks."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            whole = torch.ones(parameter.shape)
            if not isinstance(module, RMSNorm):
                whole.normal_(0.0, model.config.init_std, generator=generator)
            parameter.copy_(_placed_like(whole, parameter))


def _placed_like(whole: Tensor, parameter: Tensor) -> Tensor:
    """`whole`, which every rank has, on the parameter's device and cut as the parameter is."""
    whole = whole.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return whole
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)


def clip_gradients(model: Decoder, largest: float) -> float:
    """Scale the gradients to a global norm of at most `largest`; returns the norm that they had.

    Where that is not finite they stay as they are: scaled, they would hide which parameter's it was.
    """
    parameters = list(model.parameters())
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    found = float((norm.full_tensor() if isinstance(norm, DTensor) else norm).item())
    if math.isfinite(found):
        torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return found
