"""Attention of documents and of copies of their pictures, in one packed row (DiDA; arXiv 2510.26583, section 4.3).

The documents come first and see what they always see: their own, up to themselves. Behind them stand the copies, each
of a picture with its IMG: noisy, or in the order of its diagonals. A copied token sees the tokens of its document
before the picture, and its copy: all of it, or up to the end of its own group; never the picture's own tokens or what
follows them, which would tell it the answer. No token of a document sees a copied one, so the documents are those of
ordinary training.
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


class PictureCopy(NamedTuple):
    """`size` copied tokens that see the tokens of documents from `first` up to `stop`, and each other.

    With `groups`, the sizes of the groups that they form one behind the other, each sees its group and those before.
    """

    size: int
    first: int
    stop: int
    groups: tuple[int, ...] = ()

    @property
    def ends(self) -> Tensor:
        """int32 [size]: up to where in the copy each token sees."""
        sizes = torch.tensor(self.groups or [self.size], dtype=torch.int32)
        return sizes.cumsum(0, dtype=torch.int32).repeat_interleave(sizes)


@dataclass(frozen=True)
class TwoStreams:
    """What the tokens of one row may see: documents of these `lengths`, then `copies` of pictures.

    Backend `flex` takes FlexAttention (CUDA; on the CPU without gradients; no dropout), any other one
    scaled-dot-product attention for each document and copy, with equal results.
    """

    lengths: Sequence[int]
    copies: Sequence[PictureCopy]
    device: torch.device
    backend: Backend = "documents"

    @cached_property
    def clean(self) -> Documents:
        """The documents."""
        return Documents.packed(self.lengths, self.device)

    @cached_property
    def tokens(self) -> int:
        """Tokens of the row."""
        return self.clean.keys + sum(copy.size for copy in self.copies)

    @cached_property
    def spans(self) -> list[tuple[Tensor, Tensor]]:
        """Two spans of keys that each query sees, int32 [tokens] first and stop each: of documents, and of its copy.

        The second span of a document's query is empty.
        """
        first, stop = self.clean.spans
        sizes = torch.tensor([copy.size for copy in self.copies], dtype=torch.int32)
        begins = self.clean.keys + sizes.cumsum(0) - sizes
        columns = (torch.tensor([x.first for x in self.copies]), torch.tensor([x.stop for x in self.copies]), begins)
        before, until, begin = (column.int().repeat_interleave(sizes.long()) for column in columns)
        end = begin + torch.cat([torch.empty(0, dtype=torch.int32), *(copy.ends for copy in self.copies)])
        before, until, begin, end = (to_device(column, self.device) for column in (before, until, begin, end))
        nothing = torch.zeros_like(first)
        return [
            (torch.cat((first, before)), torch.cat((stop, until))),
            (torch.cat((nothing, begin)), torch.cat((nothing, end))),
        ]

    @cached_property
    def mask(self) -> Tensor:
        """bool [tokens, tokens]: the allowed pairs, for reference and small sizes."""
        keys = torch.arange(self.tokens, device=self.device)
        either = [(keys >= first[:, None]) & (keys < stop[:, None]) for first, stop in self.spans]
        return either[0] | either[1]

    @cached_property
    def block_mask(self) -> BlockMask:
        """FlexAttention's mask."""
        return block_mask(self.spans, self.tokens)

    @cached_property
    def _masks(self) -> list[Tensor | None]:
        """Of each copy with groups, bool [size, keys]: what its tokens see of documents and of itself."""
        masks: list[Tensor | None] = []
        for copy in self.copies:
            before = copy.stop - copy.first
            keys = torch.arange(before + copy.size)
            masks.append((keys < before + copy.ends[:, None]).to(self.device) if copy.groups else None)
        return masks

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """Attention [1, tokens, heads, size]; keys and values are [1, tokens, kv_heads, size]."""
        if self.backend == "flex":
            return attend_flex(q[0], k[0], v[0], self.block_mask)[None]
        mixed: Tensor = self._attend_parts(q, k, v, dropout)
        return mixed

    # A loop over sizes that differ in each batch would be recompiled for each.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _attend_parts(self, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        at = self.clean.keys
        parts = [self.clean.attend(q[:, :at], k[:, :at], v[:, :at], dropout)]
        for copy, mask in zip(self.copies, self._masks, strict=True):
            own, before = slice(at, at + copy.size), slice(copy.first, copy.stop)
            at += copy.size
            keys, values = (torch.cat((x[:, before], x[:, own]), dim=1).transpose(1, 2) for x in (k, v))
            mixed = functional.scaled_dot_product_attention(
                q[:, own].transpose(1, 2), keys, values, attn_mask=mask, dropout_p=dropout, enable_gqa=True
            )
            parts.append(mixed.transpose(1, 2))
        return torch.cat(parts, dim=1)
