"""Logits of the ids that are allowed, from hidden states, after guidance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reelmill.tokenize.documents.grammar import Ranges


def guided_logits(head: nn.Linear, hidden: Tensor, ranges: Ranges, scales: Sequence[float] = ()) -> Tensor:
    """Logits [n, ids] of the ids in `ranges` alone, at least float32, from hidden states [n, hidden].

    Under guidance there are n states more for each of the `scales` (`Request.scales`): those after the prompt, then
    those after each other prompt of guidance.
    """
    # With few states, weight times states is twice as fast on a CPU as states times weight.
    parts = [head.weight[start:stop] @ hidden.t() for start, stop in ranges]
    logits = torch.cat(parts).t().to(torch.promote_types(head.weight.dtype, torch.float32)).chunk(1 + len(scales))
    guided = logits[-1]
    for scale, nearer, farther in zip(scales, logits, logits[1:], strict=False):
        guided = guided + scale * (nearer - farther)
    return guided
