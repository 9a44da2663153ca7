"""What the tokens of a pass see of a KV cache, and attention to it, in ways that compute the same.

- `MaskedView`: scaled-dot-product attention under a mask; any device, anything that may be seen. `GatheredView` is the
  same for a cache in pages, whose rows it puts together first.
- `PagedView`: FlashAttention's variable-length kernel over pages (CUDA, 16 bits). It reads of each row only what the
  row holds, writes no mask, and splits the keys of one row over many blocks, whose results it merges (Flash-Decoding,
  https://crfm.stanford.edu/2023/10/12/flashdecoding.html). One token of one row has 8 heads of keys in Emu3's 8B, which
  without splitting is 8 blocks on a GPU that runs more than a hundred at a time.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn

from reelmill.train.attention import Backend, choose_backend

PAGE = 256
"""FlashAttention 2 takes pages of a multiple of this many tokens."""
_VARLEN_READS_PAGES = {"block_table", "seqused_k", "enable_gqa"} <= set(inspect.signature(varlen_attn).parameters)
"""Whether this torch's varlen_attn reads a paged cache (2.11 does not)."""


def reads_pages(like: Tensor, head_size: int, backend: Backend | None) -> bool:
    """Whether caches of the device and type of `like` are read by pages: where attention is `varlen`, by choice
    (`backend`) or by default, and torch and its kernel can."""
    chosen = backend or choose_backend(like.device, like.dtype, 0.0)
    return chosen == "varlen" and _VARLEN_READS_PAGES and head_size % 8 == 0 and head_size <= 256


class View(Protocol):
    """What the new tokens of some rows see."""

    def attend(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention [rows, n, heads, size] of queries [rows, n, heads, size] to a cache's keys and values
        [all rows, kv_heads, capacity, size], or [pages, kv_heads, PAGE, size] of one in pages."""


@dataclass
class MaskedView:
    """`rows` see the first `allowed.shape[-1]` tokens where bool [rows, 1, n or 1, tokens] allows it."""

    rows: slice
    allowed: Tensor

    def attend(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `View`."""
        span = self.allowed.shape[-1]
        return _masked_attention(q, keys[self.rows, :, :span], values[self.rows, :, :span], self.allowed)


@dataclass
class GatheredView:
    """The same for rows whose pages are those of `table` int32 [rows, n]."""

    table: Tensor
    allowed: Tensor

    def attend(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `View`."""
        return _masked_attention(q, self._rows(keys), self._rows(values), self.allowed)

    def _rows(self, pages: Tensor) -> Tensor:
        """[rows, kv_heads, tokens, size]"""
        return pages[self.table].transpose(1, 2).flatten(2, 3)[:, :, : self.allowed.shape[-1]]


@dataclass
class PagedView:
    """Each row sees its first `used` int32 [rows] tokens, of at most `span`; if `causal`, its n new tokens are the last
    of them, and each sees those up to itself. `table` int32 [rows, n] has the numbers of its pages."""

    table: Tensor
    used: Tensor
    span: int
    causal: bool

    def attend(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `View`."""
        rows, count, heads, size = q.shape
        starts = torch.arange(0, (rows + 1) * count, count, dtype=torch.int32, device=q.device)
        # One token sees all, causal or not; only without the bound are heads that share keys read together.
        options: dict[str, Any] = {"window_size": (-1, 0) if self.causal and count > 1 else (-1, -1)}
        mixed: Tensor = varlen_attn(  # type: ignore[assignment]
            q.flatten(0, 1),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            starts,
            starts,  # the lengths are those of `seqused_k`
            count,
            self.span,
            enable_gqa=heads != keys.shape[1],
            seqused_k=self.used,
            block_table=self.table,
            **options,
        )
        return mixed.view(rows, count, heads, size)


def _masked_attention(q: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
    batch, count, heads, size = q.shape
    kv_heads = keys.shape[1]
    # With one token, the heads that share keys are queries at one position: no keys need to be repeated.
    q = q.view(batch, kv_heads, heads // kv_heads, size) if count == 1 else q.transpose(1, 2)
    mixed = functional.scaled_dot_product_attention(q, keys, values, attn_mask=allowed, enable_gqa=count > 1)
    return mixed.reshape(batch, 1, heads, size) if count == 1 else mixed.transpose(1, 2)
