"""Next-token cross-entropy from hidden states, weighted per token, without ever holding all the logits.

At Emu3's vocabulary (184,622) the logits of 5,120 tokens are 3.5 GiB in float32 and their gradients as much again. The
sum is therefore taken in chunks of tokens, and each chunk's gradient replaces its logits in place: nothing is computed
twice, and only one chunk's logits exist at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from reelmill.errors import ReelmillError

ROWS = {"cuda": 2048, "cpu": 512}
"""Tokens per chunk. Each chunk reads and writes the whole gradient of the weight once; the more tokens a chunk has, the
less that matters beside its products (`bench/loss.py --rows`). At Emu3's vocabulary, 2,048 are 1.5 GB of logits."""


@dataclass(frozen=True)
class VocabShard:
    """The rows of the weight that this rank of a 1-D `mesh` has: those from `first` on (tensor parallelism)."""

    first: int
    mesh: DeviceMesh

    def locate(self, ids: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Of ids: where among the `count` rows here they are (for those elsewhere any row), and whether they are."""
        rows = ids - self.first
        return rows.clamp(0, count - 1), (rows >= 0) & (rows < count)

    def combine(self, log_z: Tensor, logits: Tensor, is_here: Tensor) -> tuple[Tensor, Tensor]:
        """[n, 1] each: the log-normaliser over all parts, of those of each, and a logit that one of them has."""
        own = torch.cat((log_z, logits * is_here), dim=1)
        parts = DTensor.from_local(own[None], self.mesh, [Shard(0)], run_check=False).full_tensor()
        return parts[..., :1].logsumexp(0), parts[..., 1:].sum(0)


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    token_weights: Tensor,
    *,
    z_loss: float = 0.0,
    rows: int = 0,
    shard: VocabShard | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted sum of the tokens' losses, and each token's own negative log-likelihood and log-normaliser.

    hidden [N, D] and weight [V, D] of one floating type; targets int64 [N]; token_weights float32 [N]. Computed in
    float32, or float64 for inputs of that. Returns (total, nll, log_z):

    total: sum of token_weights * (nll + z_loss * log_z ** 2), a scalar with gradients to hidden and weight. The caller
        divides by the weight of the whole global batch, not of this call. `z_loss` keeps logits from drifting (PaLM,
        arXiv 2204.02311, section 5, with 1e-4).
    nll, log_z: [N] in nats, not weighted, without gradient; log_z is the logsumexp of a token's logits.

    The gradients are formed here and handed out by the first backward; a second one raises ReelmillError.
    `rows` are the tokens of a chunk, by default those of `ROWS`. With a `shard` of the vocabulary the results are those
    of the whole, the same on all ranks of the mesh, and the gradient to hidden is this part's share of their sum.
    """
    rows = rows or ROWS.get(hidden.device.type, ROWS["cuda"])
    total, nll, log_z = _ChunkedCrossEntropy.apply(hidden, weight, targets, token_weights, z_loss, rows, shard)  # type: ignore[no-untyped-call]
    return total, nll, log_z


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Forward computes the sum and both gradients; backward only scales the gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        token_weights: Tensor,
        z_loss: float,
        rows: int,
        shard: VocabShard | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        wide = torch.promote_types(hidden.dtype, torch.float32)
        token_weights = token_weights.to(wide)
        nll = torch.empty(hidden.shape[0], dtype=wide, device=hidden.device)
        log_z = torch.empty_like(nll)
        grad_hidden = torch.empty_like(hidden) if needs_gradient else None
        # Summing the chunks' gradients in float32 keeps bfloat16 training from losing the small ones.
        grad_weight = torch.zeros_like(weight, dtype=wide) if needs_gradient else None
        statistics, gradient = _fused() if hidden.is_cuda else (_normalize_in_place, _gradient_in_place)
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            states, wanted, scale = hidden[part], targets[part].unsqueeze(1), token_weights[part].unsqueeze(1)
            logits = states @ weight.t()
            if shard is not None:
                wanted, is_here = shard.locate(wanted, weight.shape[0])
            logits, own, wanted_logits = statistics(logits, wanted)
            normalizer, minus = own, scale
            if shard is not None:
                normalizer, wanted_logits = shard.combine(own, wanted_logits, is_here)
                minus = scale * is_here
            nll[part], log_z[part] = (normalizer - wanted_logits).squeeze(1), normalizer.squeeze(1)
            if grad_hidden is None or grad_weight is None:
                continue
            # d total / d logits = weight * ((1 + 2 z log_z) softmax - onehot)
            factor = scale * (1 + 2 * z_loss * normalizer)
            narrow = gradient(logits, own, normalizer, factor, wanted, minus).to(hidden.dtype)
            grad_hidden[part] = narrow @ weight
            if weight.dtype == wide:
                grad_weight.addmm_(narrow.t(), states)
            else:
                grad_weight += narrow.t() @ states
            del logits, narrow  # before the next chunk's are made
        if grad_hidden is not None and grad_weight is not None:
            # Not saved for backward: autograd would hold on to them, and the weight's gradient be copied, not taken.
            ctx.gradients = grad_hidden, grad_weight.to(weight.dtype)
        ctx.mark_non_differentiable(nll, log_z)
        losses = nll + z_loss * log_z.square() if z_loss else nll
        return torch.dot(losses, token_weights), nll, log_z

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise ReelmillError("the chunked cross-entropy hands out its gradients once; compute the loss again.")
        (grad_hidden, grad_weight), ctx.gradients = ctx.gradients, None
        return grad_hidden.mul_(grad_outputs[0]), grad_weight.mul_(grad_outputs[0]), None, None, None, None, None


def _normalize_in_place(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of logits [n, V]: log-probabilities in their place, log-normalizers, the logits at the ids `wanted` [n, 1]."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    wanted_logits = logits.gather(1, wanted)
    torch.log_softmax(logits, 1, out=logits)
    return logits, wanted_logits - logits.gather(1, wanted), wanted_logits


def _gradient_in_place(
    log_probs: Tensor, own: Tensor, whole: Tensor, factor: Tensor, wanted: Tensor, minus: Tensor
) -> Tensor:
    """factor * softmax - minus * onehot(wanted), [n, V], of what `_normalize_in_place` made, in its place.

    own, whole: the log-normalizers of this part of the vocabulary and of all of it.
    """
    if own is not whole:
        log_probs.add_(own - whole)
    return log_probs.exp_().mul_(factor).scatter_add_(1, wanted, -minus)


def _statistics(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Like `_normalize_in_place`, but the logits stay unchanged."""
    wide = logits.float()
    return logits, wide.logsumexp(1, keepdim=True), wide.gather(1, wanted)


def _gradient(logits: Tensor, own: Tensor, whole: Tensor, factor: Tensor, wanted: Tensor, minus: Tensor) -> Tensor:
    """As `_gradient_in_place`, of the logits, in their type; each entry on its own, so that they are read once."""
    is_wanted = torch.arange(logits.shape[1], device=logits.device) == wanted
    return (factor * (logits.float() - whole).exp() - minus * is_wanted).to(logits.dtype)


@cache
def _fused() -> tuple[Callable[..., tuple[Tensor, Tensor, Tensor]], Callable[..., Tensor]]:
    """Both compiled for a GPU: operator by operator they would pass over a chunk's logits eight times in float32."""
    return torch.compile(_statistics), torch.compile(_gradient)
