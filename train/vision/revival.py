"""Dead codes of a learned codebook are put back where the vectors are (as in Dhariwal et al. 2020, Jukebox, A.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from reelmill.errors import ConfigError
from reelmill.train.parallel import Ranks

DEAD = 0.03
"""A code is dead when its running use is under this share of the mean use."""
_WINDOW = 8
"""Running use fades over so many draws a code: a code at a tenth of the mean use is rarely taken for dead."""


class Revival:
    """Running use of every code over all ranks, and the replacement of the dead ones."""

    def __init__(self, codes: int, ranks: Ranks) -> None:
        self.ranks = ranks
        self.use = torch.ones(codes, device=ranks.device)  # 1 is the mean; until they were drawn all count as alike

    def count(self, codes: Tensor) -> None:
        """Add a batch's codes, of any shape, to the running use."""
        counts = self.ranks.sum(torch.bincount(codes.flatten(), minlength=len(self.use)).float())
        each = counts.sum() / len(counts)
        self.use.lerp_(counts / each, (each / _WINDOW).clamp(max=1.0))

    @torch.no_grad()
    def revive(self, models: Sequence[nn.Module], vectors: Tensor, seed: int) -> int:
        """Set dead codes of all `models` to random ones of the first rank's vectors [N, D, 1, h, w]; returns how many.

        No vector is given twice: the second of two equal codes would never be drawn. Of more dead codes than vectors,
        random ones wait for the next time.
        """
        dead = torch.nonzero(self.use < DEAD).flatten()
        sites = vectors.movedim(1, -1).flatten(0, -2).float()
        generator = torch.Generator().manual_seed(seed)
        dead = dead[torch.randperm(len(dead), generator=generator)[: len(sites)].to(dead.device)]
        chosen = sites[torch.randperm(len(sites), generator=generator)[: len(dead)].to(sites.device)].contiguous()
        dist.broadcast(chosen, src=0)
        for model in models:
            weight = _codebook(model)
            whole = weight.full_tensor() if isinstance(weight, DTensor) else weight.detach().clone()
            whole[dead] = chosen
            set_codebook(model, whole)
        self.use[dead] = 1.0
        return len(dead)


@torch.no_grad()
def set_codebook(model: nn.Module, rows: Tensor) -> None:
    """Make [codes, D] `rows`, the same on all ranks, the codebook of a model or of a rank's share of it."""
    weight = _codebook(model)
    if isinstance(weight, DTensor):
        rows = distribute_tensor(rows, weight.device_mesh, weight.placements, src_data_rank=None)
    weight.copy_(rows)


def _codebook(model: nn.Module) -> nn.Parameter:
    for name, parameter in model.named_parameters():
        if name.endswith("quantize.embedding.weight"):
            return parameter
    raise ConfigError("fit and revive_every are for learned codebooks (model.quantizer nearest); set them to 0")
