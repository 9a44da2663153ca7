"""Tensor parallelism: the ranks share each layer's heads and MLP width, and the vocabulary.

Between the products the ranks share the positions instead (sequence parallelism; Korthikanti et al., arXiv 2205.05198):
norms, residual branches and dropout see a part of each row on each rank, and the sums over the ranks that follow a
product leave each rank its part. The norms' weights are on all ranks alike, as DTensors, so that FSDP, clipping and
checkpoints find all parameters on one mesh.
"""

from __future__ import annotations

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from reelmill.train.model import Decoder

_POSITIONS = Shard(1)
_HEADS = 2


def share_layers(model: Decoder, mesh: DeviceMesh) -> None:
    """Split the parameters over the ranks of a 1-D mesh, and redistribute inputs and outputs as needed."""
    parallelize_module(
        model,
        mesh,
        {
            "embed_tokens": RowwiseParallel(input_layouts=Replicate(), output_layouts=_POSITIONS),
            "norm": SequenceParallel(),
            "lm_head": ColwiseParallel(input_layouts=_POSITIONS, output_layouts=Replicate()),
        },
    )
    plan: dict[str, ParallelStyle] = {
        "input_layernorm": SequenceParallel(),
        "self_attn": PrepareModuleInput(
            input_layouts=(_POSITIONS, None, None, None), desired_input_layouts=(Replicate(), None, None, None)
        ),
        "self_attn.q_proj": ColwiseParallel(),
        "self_attn.k_proj": ColwiseParallel(),
        "self_attn.v_proj": ColwiseParallel(),
        "self_attn.o_proj": RowwiseParallel(output_layouts=_POSITIONS),
        "post_attention_layernorm": SequenceParallel(),
        "mlp": PrepareModuleInput(input_layouts=(_POSITIONS,), desired_input_layouts=(Replicate(),)),
        "mlp.gate_proj": ColwiseParallel(),
        "mlp.up_proj": ColwiseParallel(),
        "mlp.down_proj": RowwiseParallel(output_layouts=_POSITIONS),
    }
    if model.config.qk_norm:
        plan |= {
            f"self_attn.{name}": SequenceParallel(sequence_dim=_HEADS, use_local_output=True)
            for name in ("q_norm", "k_norm")
        }
    for layer in model.layers:
        parallelize_module(layer, mesh, plan)
