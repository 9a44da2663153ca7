"""A sharded model gathered on one rank, to sample from while the others wait."""

from __future__ import annotations

import torch
from torch.distributed.tensor import DTensor

from reelmill.train.model import Decoder
from reelmill.train.parallel import Precision, Ranks


@torch.no_grad()
def gather_full_decoder(model: Decoder, ranks: Ranks, precision: Precision) -> Decoder | None:
    """The unsharded model in the computing precision on the first rank's device; None on the others.

    All ranks call this; parameters are gathered one at a time. The first rank needs memory for one full copy.
    """
    with torch.device("meta"):
        whole = Decoder(model.config)
    if ranks.is_first:
        whole.to_empty(device=ranks.device).to(torch.bfloat16 if precision == "bfloat16" else torch.float32)
    targets = whole.state_dict()
    for name, tensor in model.state_dict().items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if ranks.is_first:
            targets[name].copy_(full)
    return whole.eval() if ranks.is_first else None
