"""A tokenizer over several ranks: DDP, or FSDP2 where the model is large; its whole state out of either."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from reelmill.train.parallel import Ranks

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def trainable(model: nn.Module, ranks: Ranks, parallel: Literal["ddp", "fsdp"]) -> nn.Module:
    """`model` on the rank's device, gradients averaged over the ranks. One rank, or nothing to train: as it is."""
    model = model.to(ranks.device)
    if ranks.size > 1 and parallel == "fsdp":
        fully_shard(model, mesh=ranks.mesh)
        return model
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster; FSDP takes no such
    if ranks.size == 1 or not any(parameter.requires_grad for parameter in model.parameters()):
        return model
    return DistributedDataParallel(model)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without DDP around it."""
    inner: nn.Module = model.module if isinstance(model, DistributedDataParallel) else model
    return inner


def full_state(model: nn.Module) -> dict[str, Tensor]:
    """The whole state of a model, on the CPU; all ranks call this, and the first one has all of it."""
    state: dict[str, Any] = get_model_state_dict(unwrapped(model), options=_WHOLE)
    return state
