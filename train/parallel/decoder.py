"""Builds a decoder in the layout of a run, and clips its gradients."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from reelmill.errors import ConfigError
from reelmill.train.attention import choose_backend
from reelmill.train.fused_loss import check_kernels
from reelmill.train.model import Decoder, Layer, ModelConfig, RMSNorm
from reelmill.train.parallel.float8 import use_float8
from reelmill.train.parallel.layout import Layout
from reelmill.train.parallel.recompute import recomputing
from reelmill.train.parallel.tensor import share_layers

Precision = Literal["float32", "bfloat16"]


def sharded_decoder(config: ModelConfig, layout: Layout, precision: Precision, seed: int | None) -> Decoder:
    """A new decoder in `layout`, its parameters float32 and split over the ranks, computing in `precision`.

    It is shaped on the meta device and filled shard by shard, so that no rank ever holds the whole. Without a seed its
    weights are not drawn, for whoever loads all of them: each rank would draw those of the whole. Raises ConfigError
    for a float8 or loss kernels that cannot run here, and where nothing would be compiled though that is asked for.
    """
    with torch.device("meta"):
        model = Decoder(config)
    model.backend, model.part = layout.backend, layout.part
    model.lm_head.kernel = layout.loss_kernel
    if layout.loss_kernel == "triton":
        check_kernels(layout.ranks.device)
    compiles = compiles_layers(config, layout, precision)
    # The order matters: float8 replaces modules that the rest then wraps, and FSDP wraps everything.
    if layout.config.float8:
        use_float8(model, layout.ranks.device)
    if layout.tensor is not None:
        share_layers(model, layout.tensor)
    for layer in all_layers(model):
        assert isinstance(layer, Layer)
        layer.recompute = recomputing(layout.config.recompute, config.attention_dropout)
        if compiles:
            layer.compile()
    _split_weights(model, layout.weights, precision)
    model.to_empty(device=layout.ranks.device)
    if seed is not None:
        initialize(model, seed)
    return model


def compiles_layers(config: ModelConfig, layout: Layout, precision: Precision) -> bool:
    """Whether the layers are compiled. ConfigError if that is requested and would compile nothing."""
    device = layout.ranks.device
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    backend = layout.backend or choose_backend(device, dtype, config.attention_dropout)
    if layout.config.compile is None:
        return device.type == "cuda" and backend == "varlen"
    if layout.config.compile and backend == "documents" and layout.config.recompute != "none":
        raise ConfigError(
            f"parallel.compile is true and parallel.recompute {layout.config.recompute}, but attention here is "
            "`documents`, which cannot be compiled, and a layer that is recomputed is compiled whole or not at all; "
            "set parallel.recompute to none, or leave parallel.compile out."
        )
    return layout.config.compile


def _split_weights(model: Decoder, mesh: DeviceMesh, precision: Precision) -> None:
    if mesh.size() == 1 and precision == "float32":
        return  # a single rank computes with its weights directly; FSDP would hold them twice
    # Inputs are not cast: rotary angles and token weights stay float32. Gradients are reduced in float32.
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if precision == "bfloat16" else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    for layer in all_layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model.lm_head, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(model.lm_head, "loss")
    fully_shard(model, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(model, "diagonal")


def all_layers(model: Decoder) -> list[nn.Module]:
    """The layers of the decoder, and those of its second head."""
    return [*model.layers, *(model.vertical.layers if model.vertical else ())]


@torch.no_grad()
def initialize(model: Decoder, seed: int) -> None:
    """Norms are 1, everything else normal with `init_std`; the same for a seed at any number of ranks."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            whole = torch.ones(parameter.shape)
            if not isinstance(module, RMSNorm):
                whole.normal_(0.0, model.config.init_std, generator=generator)
            parameter.copy_(placed_like(whole, parameter))


def placed_like(whole: Tensor, parameter: Tensor) -> Tensor:
    """`whole`, which every rank has, on the parameter's device and cut as the parameter is."""
    whole = whole.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return whole
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)


def clip_gradients(model: nn.Module, largest: float) -> float:
    """Scale the gradients to a global norm of at most `largest`; returns the norm that they had.

    Where that is not finite they stay as they are: scaled, they would hide which parameter's it was.
    """
    parameters = list(model.parameters())
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    found = float((norm.full_tensor() if isinstance(norm, DTensor) else norm).item())
    if math.isfinite(found):
        torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return found
