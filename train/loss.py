"""Next-token cross-entropy from hidden states, weighted per token, without ever holding all the logits.

At Emu3's vocabulary (184,622) the logits of 5,120 tokens are 3.5 GiB in float32 and their gradients as much again. The
sum is therefore taken in chunks of tokens, and each chunk's gradient is formed while its logits are at hand, so that
nothing is computed twice and only one chunk's logits exist at a time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNKS = 8
"""Chunks a call. Each one reads and writes the whole gradient of the weight, so few and large beat many and small."""


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, token_weights: Tensor, chunks: int = CHUNKS
) -> tuple[Tensor, Tensor]:
    """The weighted sum of the tokens' negative log-likelihoods, and each token's own.

    hidden [N, D] and weight [V, D] of one floating type; targets int64 [N]; token_weights float32 [N]. Returns
    (sum of token_weights * nll, a scalar with gradients to hidden and weight; nll float32 [N] in nats, without gradient
    and not weighted). The caller divides by the weight of the whole global batch, not of this call.
    """
    total, nll = _ChunkedCrossEntropy.apply(hidden, weight, targets, token_weights, chunks)  # type: ignore[no-untyped-call]
    return total, nll


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Forward computes the sum and both gradients; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, token_weights: Tensor, chunks: int
    ) -> tuple[Tensor, Tensor]:
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        nll = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if needs_gradient else None
        # Summing the chunks' gradients in float32 keeps bfloat16 training from losing the small ones.
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_gradient else None
        size = max(1, -(-hidden.shape[0] // chunks))
        for start in range(0, hidden.shape[0], size):
            part = slice(start, start + size)
            states, wanted = hidden[part], targets[part].unsqueeze(1)
            logits = (states @ weight.t()).float()
            normaliser = torch.logsumexp(logits, dim=1, keepdim=True)
            nll[part] = (normaliser - logits.gather(1, wanted)).squeeze(1)
            if grad_hidden is None or grad_weight is None:
                continue
            probabilities = logits.sub_(normaliser).exp_()
            probabilities.scatter_add_(1, wanted, torch.full_like(normaliser, -1.0))
            grad_logits = probabilities.mul_(token_weights[part].unsqueeze(1)).to(hidden.dtype)
            grad_hidden[part] = grad_logits @ weight
            if weight.dtype == torch.float32:
                grad_weight.addmm_(grad_logits.t(), states)
            else:
                grad_weight += grad_logits.t() @ states
        if grad_hidden is not None and grad_weight is not None:
            ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        total = torch.dot(nll, token_weights)
        ctx.mark_non_differentiable(nll)
        return total, nll

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad_outputs[0], grad_weight * grad_outputs[0], None, None, None
