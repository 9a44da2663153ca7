"""A tokenizer over several ranks: DDP, or FSDP2 where the model is large; whole state dicts in and out of either."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
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


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """The whole state of a model, or of its optimizer, on the CPU; all ranks call this."""
    if optimizer is None:
        return get_model_state_dict(model, options=_WHOLE)
    return dict(get_optimizer_state_dict(model, optimizer, options=_WHOLE))


def load_state(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, tensors: dict[str, Any], state: dict[str, Any] | None
) -> None:
    """Fill a model, and its optimizer, from what `state_of` gave; all ranks call this with the same."""
    set_model_state_dict(model, tensors, options=_WHOLE)
    if optimizer is not None and state is not None:
        set_optimizer_state_dict(model, optimizer, state, options=_WHOLE)
