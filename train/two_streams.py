"""Attention of clean documents and of noisy copies of their pictures, in one packed row (DiDA; arXiv 2510.26583, 4.3).

The clean tokens come first and see what they always see: their own document, up to themselves. Behind them stand the
noisy blocks, each a copy of a picture with its IMG. A noisy token sees the clean tokens of its document before the
picture, and its whole block in both directions; never the picture's own clean tokens or what follows them, which would
tell it the answer. No clean token sees a noisy one, so the clean stream is that of ordinary training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask

from reelmill.train.attention import Backend, Documents, attend_flex, block_mask, to_device


class NoisyBlock(NamedTuple):
    """`size` tokens that see each other and the clean tokens from `first` up to `stop`."""

    size: int
    first: int
    stop: int


@dataclass(frozen=True)
class TwoStreams:
    """What the tokens of one row may see: clean documents of these `lengths`, then `blocks`.

    Backend `flex` takes FlexAttention (CUDA; on the CPU without gradients; no dropout), any other one
    scaled-dot-product attention for each document and block, with equal results.
    """

    lengths: Sequence[int]
    blocks: Sequence[NoisyBlock]
    device: torch.device
    backend: Backend = "documents"

    @cached_property
    def clean(self) -> Documents:
        """The clean documents."""
        return Documents.packed(self.lengths, self.device)

    @cached_property
    def tokens(self) -> int:
        """Tokens of the row."""
        return self.clean.keys + sum(block.size for block in self.blocks)

    @cached_property
    def spans(self) -> list[tuple[Tensor, Tensor]]:
        """Two spans of keys that each query sees, int32 [tokens] first and stop each: of clean tokens, and its block.

        The second span of a clean query is empty.
        """
        first, stop = self.clean.spans
        sizes = torch.tensor([block.size for block in self.blocks], dtype=torch.int32)
        ends = self.clean.keys + sizes.cumsum(0)
        columns = (
            torch.tensor([block.first for block in self.blocks]),
            torch.tensor([block.stop for block in self.blocks]),
            ends - sizes,
            ends,
        )
        before, until, begin, end = (
            to_device(column.int().repeat_interleave(sizes.long()), self.device) for column in columns
        )
        nothing = torch.zeros_like(first)
        return [
            (torch.cat((first, before)), torch.cat((stop, until))),
            (torch.cat((nothing, begin)), torch.cat((nothing, end))),
        ]

    @cached_property
    def mask(self) -> Tensor:
        """bool [tokens, tokens]: the pairs that are allowed, for reference and small sizes."""
        keys = torch.arange(self.tokens, device=self.device)
        either = [(keys >= first[:, None]) & (keys < stop[:, None]) for first, stop in self.spans]
        return either[0] | either[1]

    @cached_property
    def block_mask(self) -> BlockMask:
        """FlexAttention's mask."""
        return block_mask(self.spans, self.tokens)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """Attention [1, tokens, heads, size]; keys and values are [1, tokens, kv_heads, size]."""
        if self.backend == "flex":
            return attend_flex(q[0], k[0], v[0], self.block_mask)[None]
        mixed: Tensor = self._attend_parts(q, k, v, dropout)
        return mixed

    # A loop over sizes that differ in each batch would be compiled anew for each.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _attend_parts(self, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        at = self.clean.keys
        parts = [self.clean.attend(q[:, :at], k[:, :at], v[:, :at], dropout)]
        for block in self.blocks:
            own, before = slice(at, at + block.size), slice(block.first, block.stop)
            at += block.size
            keys, values = (torch.cat((x[:, before], x[:, own]), dim=1).transpose(1, 2) for x in (k, v))
            mixed = functional.scaled_dot_product_attention(
                q[:, own].transpose(1, 2), keys, values, dropout_p=dropout, enable_gqa=True
            )
            parts.append(mixed.transpose(1, 2))
        return torch.cat(parts, dim=1)
