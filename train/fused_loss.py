"""The loss of `loss.py` by Triton kernels that write no logits, neither all nor a chunk's.

What it costs is a second computation of the logits in backward: 8 V D FLOPs a token where the chunked loss takes 6.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from reelmill.errors import ConfigError
from reelmill.train.loss import VocabShard

LossKernel = Literal["chunked", "triton"]


@dataclass(frozen=True)
class Tiles:
    """How the kernels divide their work: tokens by ids by width of one product, and the warps that compute it.

    `depth` are 16-bit numbers of the width; of 32-bit ones a product takes half as many.
    """

    rows: int
    columns: int
    depth: int
    warps: int = 8
    stages: int = 3


NORMALIZERS, GRADIENTS = Tiles(128, 128, 64), Tiles(128, 256, 32)
"""The largest that ptxas gives registers without spilling on Hopper, in 96 and 168 KB of shared memory (Triton 3.6 and
3.9; forward with 256 columns spills). Not measured: `bench/gpu/loss.py` does."""
PARTS = 16
"""Parts of the vocabulary that forward reads at the same time: 40 blocks of 5,120 tokens alone are too few programs."""
GROUP = 12
"""Blocks of tokens that go through the vocabulary together in backward: about the root of a GPU's multiprocessors."""


def check_kernels(device: torch.device) -> None:
    """Raise ConfigError where the kernels cannot run: they need triton, and CUDA or triton's interpreter."""
    if importlib.util.find_spec("triton") is None:
        raise ConfigError(
            "parallel.loss is triton, and the package triton is not installed; install it, or set parallel.loss to "
            "chunked."
        )
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ConfigError(
            f"parallel.loss is triton, whose kernels need CUDA, and the device is {device.type}; set parallel.loss to "
            "chunked."
        )


def fused_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    token_weights: Tensor,
    *,
    z_loss: float = 0.0,
    shard: VocabShard | None = None,
    forward: Tiles = NORMALIZERS,
    backward: Tiles = GRADIENTS,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `loss.chunked_cross_entropy`: the weighted sum of the tokens' losses, their NLL and their log-normalizers.

    hidden [N, D] and weight [V, D] of one type of at most 32 bits. Memory beside inputs and results is both gradients
    in float32 while they are made, and 2 x PARTS numbers a token. Tokens of weight 0 are gathered in blocks of their
    own, which backward leaves out. Gradients are sums by atomic additions, in no fixed order: two runs agree to
    rounding, not to the bit.
    """
    total, nll, log_z = _FusedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, weight, targets, token_weights, z_loss, shard, forward, backward
    )
    return total, nll, log_z


class _FusedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        token_weights: Tensor,
        z_loss: float,
        shard: VocabShard | None,
        tiles: Tiles,
        backward: Tiles,
    ) -> tuple[Tensor, Tensor, Tensor]:
        token_weights = token_weights.float()
        hidden, weight = hidden.contiguous(), weight.contiguous()
        here = targets if shard is None else targets - shard.first
        log_z, wanted = _normalizers(hidden, weight, here, tiles)
        if shard is not None:
            _, is_here = shard.locate(targets[:, None], weight.shape[0])
            combined = shard.combine(log_z[:, None], wanted[:, None], is_here)
            log_z, wanted = (values.squeeze(1) for values in combined)
        ctx.save_for_backward(hidden, weight, here, token_weights, log_z)
        ctx.z_loss, ctx.tiles = z_loss, backward
        nll = log_z - wanted
        ctx.mark_non_differentiable(nll, log_z)
        losses = nll + z_loss * log_z.square() if z_loss else nll
        return torch.dot(losses, token_weights), nll, log_z

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        from reelmill.train import loss_kernels

        hidden, weight, targets, token_weights, log_z = ctx.saved_tensors
        tiles: Tiles = ctx.tiles
        scales = token_weights * grad_outputs[0]
        order = torch.argsort(scales == 0, stable=True)  # no token is counted on the host, which would have to wait
        grads = [torch.zeros_like(x, dtype=torch.float32) for x in (hidden, weight)]
        (tokens, width), vocab = hidden.shape, weight.shape[0]
        grid = (-(-tokens // tiles.rows) * -(-vocab // tiles.columns),)
        loss_kernels.gradients[grid](
            hidden, weight, targets, order, log_z, scales, *grads, ctx.z_loss, tokens, vocab, width,
            tiles.rows, tiles.columns, 2 * tiles.depth // hidden.element_size(), GROUP, _widen(hidden),
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip
        return grads[0].to(hidden.dtype), grads[1].to(weight.dtype), *[None] * 6


def _normalizers(hidden: Tensor, weight: Tensor, targets: Tensor, tiles: Tiles) -> tuple[Tensor, Tensor]:
    """float32 [N] each: the log-normalizers over these ids, and the targets' logits, 0 for a target elsewhere."""
    from reelmill.train import loss_kernels

    (tokens, width), vocab = hidden.shape, weight.shape[0]
    in_all = -(-vocab // tiles.columns)
    each = -(-in_all // PARTS)
    parts = -(-in_all // each)  # none is empty
    log_z, wanted = torch.empty(2, parts, tokens, dtype=torch.float32, device=hidden.device)
    loss_kernels.normalizers[-(-tokens // tiles.rows), parts](
        hidden, weight, targets, log_z, wanted, tokens, vocab, width, each,
        tiles.rows, tiles.columns, 2 * tiles.depth // hidden.element_size(), _widen(hidden),
        num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    return log_z.logsumexp(0), wanted.sum(0)


def _widen(hidden: Tensor) -> bool:
    """Triton's interpreter keeps bfloat16 as integers, and its dot multiplies those."""
    return not hidden.is_cuda
