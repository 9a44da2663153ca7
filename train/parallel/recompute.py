"""Activation checkpointing: backward recomputes what forward did not keep."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

_MATMULS = {torch.ops.aten.mm.default, torch.ops.aten._scaled_mm.default}
_SUMS = {torch.ops._c10d_functional.reduce_scatter_tensor.default}
_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.torch_attn._varlen_attn.default,
    torch.ops.higher_order.flex_attention,
}


def recomputing(kind: str, attention_dropout: float) -> Callable[..., Tensor] | None:
    """What runs a layer under `parallel.recompute`: None keeps everything.

    `full` keeps a layer's input alone. `selective` keeps what costs much for its size: attention, sums over the
    ranks, and products that are no wider than their input (all but the MLP's gate and up, which at Emu3's sizes make
    three quarters of what the products would keep). Attention with dropout is computed again: kept, it would not draw
    its random numbers a second time, and the dropouts behind it would draw others than in forward.
    """
    if kind == "none":
        return None
    whole: Callable[..., Tensor] = partial(checkpoint, use_reentrant=False)
    if kind == "full":
        return whole
    kept = _SUMS if attention_dropout else _SUMS | _ATTENTION

    def policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        is_kept = op in kept or (op in _MATMULS and args[1].shape[1] <= args[1].shape[0])
        return CheckpointPolicy.MUST_SAVE if is_kept else CheckpointPolicy.PREFER_RECOMPUTE

    return partial(whole, context_fn=partial(create_selective_checkpoint_contexts, policy))
