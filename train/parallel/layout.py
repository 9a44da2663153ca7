"""How a run is laid out over its ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from reelmill.config import free
from reelmill.errors import ConfigError
from reelmill.train.attention import Backend
from reelmill.train.context import ContextPart
from reelmill.train.fused_loss import LossKernel
from reelmill.train.model import ModelConfig
from reelmill.train.parallel.ranks import TIMEOUT_S, Ranks


@dataclass(kw_only=True)
class ParallelConfig:
    """How the ranks share the work. Only the order of sums and float8 change the results."""

    tensor: int = free(1)
    """Ranks that share each layer's heads, MLP width and the vocabulary (tensor and sequence parallelism)."""
    context: int = free(1)
    """Ranks that share the positions of each row (`context.py`)."""
    shard: int = free(0)
    """Ranks over which weights, gradients and optimizer are split; times `context`, over which they always are. 0: all
    that tensor and context leave (FSDP). Fewer: so many groups have a copy each (HSDP)."""
    recompute: Literal["none", "selective", "full"] = free("none")
    """What backward recomputes: nothing; all but attention and the narrow projections; whole layers."""
    compile: bool | None = free(None)
    """Compile each layer (torch.compile); without a value those of CUDA whose attention can be compiled."""
    float8: bool = False
    """The layers' projections in float8 (torchao; CUDA with compute capability 8.9 or more)."""
    attention: Literal["auto", "documents", "varlen", "flex"] = free("auto")
    """The way of attention (`attention.py`); auto takes the fastest that can do it."""
    loss: Literal["auto", "chunked", "triton"] = free("auto")
    """The kernels of the loss: chunks of logits (`loss.py`), or Triton's without any (`fused_loss.py`). auto takes
    chunks: by the roofline Triton's save their memory and cost more time."""
    timeout_s: float = free(TIMEOUT_S)
    """Seconds that a rank waits for the others in a collective before the run fails."""

    def check(self, model: ModelConfig, row: int, ranks: int) -> None:
        """Raise ConfigError if a model or rows of `row` tokens cannot be split over these ranks."""
        for name, least in (("tensor", 1), ("context", 1), ("shard", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"parallel.{name} is {getattr(self, name)}; it must be at least {least}.")
        if ranks % (self.tensor * self.context):
            raise ConfigError(
                f"{ranks} ranks are no multiple of parallel.tensor {self.tensor} x parallel.context {self.context}; "
                "change one of them."
            )
        if not 0 < self.timeout_s < math.inf:
            raise ConfigError(f"parallel.timeout_s is {self.timeout_s:g}; it must be a number of seconds above 0.")
        data = ranks // (self.tensor * self.context)
        if self.shard and data % self.shard:
            raise ConfigError(
                f"parallel.shard {self.shard} does not divide the {data} ranks that parallel.tensor {self.tensor} and "
                f"parallel.context {self.context} leave of {ranks}; 0 takes all of them."
            )
        for name, size in (("heads", model.heads), ("kv_heads", model.kv_heads), ("mlp", model.mlp)):
            if size % self.tensor:
                raise ConfigError(f"model.{name} {size} is no multiple of parallel.tensor {self.tensor}; change one.")
        if self.context > 1 and row % (2 * self.context):
            raise ConfigError(
                f"data.context {row} is no multiple of 2 x parallel.context {self.context}: each rank takes two chunks "
                "of a row; change one."
            )
        if row // self.context % self.tensor:
            raise ConfigError(
                f"data.context {row} over parallel.context {self.context} ranks is {row // self.context} tokens, no "
                f"multiple of parallel.tensor {self.tensor}, whose ranks share them between the layers' products."
            )


@dataclass(frozen=True)
class Layout:
    """This process's place. Ranks count through `tensor` first, then `context`, then the ranks that share weights."""

    config: ParallelConfig
    ranks: Ranks
    data_index: int
    """Which of the `data_size` parts of a batch's rows this rank computes; tensor and context ranks have the same."""
    data_size: int
    part: ContextPart | None
    """This rank's columns of the rows; None: all."""
    weights: DeviceMesh
    """Over which FSDP splits the weights: 1-D, or (dp_replicate, dp_shard)."""
    tensor: DeviceMesh | None
    tokens: dist.ProcessGroup
    """The ranks whose tokens differ: one per tensor-parallel group."""

    @classmethod
    def of(cls, config: ParallelConfig, model: ModelConfig, row: int, ranks: Ranks) -> Layout:
        """The layout of `config` for rows of `row` tokens; raises ConfigError where the numbers do not fit."""
        config.check(model, row, ranks.size)
        data = ranks.size // (config.tensor * config.context)
        shard = config.shard or data

        def mesh(**sizes: int) -> DeviceMesh:
            return init_device_mesh(ranks.device.type, tuple(sizes.values()), mesh_dim_names=tuple(sizes))

        weights = mesh(dp_replicate=data // shard, dp_shard=shard * config.context, tensor=config.tensor)
        is_replicated = shard < data
        tokens = (
            mesh(tokens=data * config.context, tensor=config.tensor)["tokens"] if is_replicated else weights["dp_shard"]
        )
        part = None
        if config.context > 1:
            part = ContextPart(mesh(data=data, context=config.context, tensor=config.tensor)["context"])
        return cls(
            config,
            ranks,
            data_index=ranks.rank // (config.tensor * config.context),
            data_size=data,
            part=part,
            weights=weights["dp_replicate", "dp_shard"] if is_replicated else weights["dp_shard"],
            tensor=weights["tensor"] if config.tensor > 1 else None,
            tokens=tokens.get_group(),
        )

    @property
    def tokens_size(self) -> int:
        """Ranks whose tokens differ; FSDP averages gradients over them."""
        return self.ranks.size // self.config.tensor

    @property
    def backend(self) -> Backend | None:
        """The way of attention that was asked for, None for the fastest."""
        return None if self.config.attention == "auto" else self.config.attention

    @property
    def loss_kernel(self) -> LossKernel:
        """What computes the loss."""
        return "chunked" if self.config.loss == "auto" else self.config.loss

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over the ranks with other tokens, in place: what tensor ranks share counts once."""
        dist.all_reduce(values, group=self.tokens)
        return values

    def sum_of_rows(self, values: Tensor) -> Tensor:
        """The sum of `values` over the ranks that share a row's positions, in place."""
        if self.part is not None:
            dist.all_reduce(values, group=self.part.mesh.get_group())
        return values

    def columns(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """This rank's columns of an array [rows, context]."""
        return array if self.part is None else array[:, self.part.columns(array.shape[1])]
