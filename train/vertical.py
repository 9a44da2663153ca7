"""The second head of a decoder (`model.VerticalHead`): which tensors are not its own, and how it begins."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reelmill.train.model import Decoder

PREFIX = "vertical."
"""How the names of its parameters begin."""


def decoder_tensors(model: Decoder) -> dict[str, Tensor]:
    """The tensors of a decoder by name, without those of its second head."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(PREFIX)}


@torch.no_grad()
def begin_vertical(model: Decoder) -> None:
    """Make the second head, where there is one, a copy of the decoder's last layers and norm, and its gate even.

    All ranks of a sharded decoder call this; each copies its own part.
    """
    head = model.vertical
    if head is None:
        return
    originals = model.layers[len(model.layers) - len(head.layers) :]
    for copy, original in ((head.norm, model.norm), *zip(head.layers, originals, strict=True)):
        for mine, theirs in zip(copy.parameters(), original.parameters(), strict=True):
            mine.copy_(theirs)
    last = head.gate[-1]
    assert isinstance(last, nn.Linear)
    for parameter in last.parameters():
        parameter.zero_()
