"""The arithmetic of exact parallel decoding: probabilities of the next token, and drafts turned into samples of them.

A draft is a token x that was sampled from some known distribution q before all that comes before it was settled. When
the model has said its distribution p at that position, `transition` gives the distribution of the token that takes the
draft's place: x itself as often as possible, such that the result is a sample of p (maximal coupling: Leviathan et al.
2023, arXiv 2211.17192, section 2.3 and appendix A.1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from reelmill.eval.generation.sampling import TokenSampling


def probabilities(logits: Tensor, params: TokenSampling) -> Tensor:
    """The distribution that `sample` samples from, float [n, ids], for logits [n, ids] in their own precision.

    Temperature 0 puts all on the likeliest id; what top-k and top-p leave out has probability 0.
    """
    if params.temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits.dtype)
    ids = logits.shape[-1]
    if params.top_k in (0, ids) and params.top_p == 1:
        return torch.softmax(logits / params.temperature, dim=-1)
    top_k = min(params.top_k, ids) or ids
    ranked, order = logits.topk(top_k, dim=-1)
    kept = torch.softmax(ranked / params.temperature, dim=-1)
    if params.top_p < 1:  # keep the shortest prefix that holds top_p
        before = kept.cumsum(dim=-1) - kept
        kept = torch.where(before < params.top_p, kept, 0)
        kept = kept / kept.sum(dim=-1, keepdim=True)
    return torch.zeros_like(logits).scatter_(1, order, kept)


def transition(p: Tensor, q: Tensor, drafts: Tensor) -> Tensor:
    """Distribution [n, ids] of the token that replaces each draft int64 [n], which was sampled from q [n, ids].

    A draft x stays with probability min(1, p(x) / q(x)); else the token comes from max(0, p - q), normalized. Over
    drafts sampled from q the result is distributed as p [n, ids].
    """
    places = drafts[:, None]
    stays = (p.gather(1, places) / q.gather(1, places)).clamp(max=1)
    residual = (p - q).clamp(min=0)
    total = residual.sum(dim=-1, keepdim=True)
    # Where p equals q nothing is left over, and every draft stays.
    moved = torch.where(total > 0, residual * ((1 - stays) / total), 0)
    return moved.scatter_add_(1, places, stays.to(moved.dtype))
