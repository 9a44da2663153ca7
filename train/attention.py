"""Causal attention within the documents of packed rows, by several equivalent backends.

What attention needs to know about a batch is computed once, as `Documents`: the tokens in order, split into runs, and
for each run the span of keys that it may see. A run is a document, or, under context parallelism, the part of one that
this rank holds. Its last query sees the whole span, and each earlier query sees one key less. The backends:

- `documents`: one scaled-dot-product attention per run; any device, with gradients and dropout; cannot be compiled;
- `varlen`: all runs in one call of FlashAttention's variable-length kernel (CUDA, float16 or bfloat16, with dropout);
- `flex`: FlexAttention over the blocks of 128 x 128 in which anything is allowed (compiled on CUDA; on the CPU without
  gradients; no dropout).

None of them computes pairs across documents, except `flex` at the edges of blocks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.bias import CausalBias, causal_lower_right
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.attention.varlen import varlen_attn

from reelmill.errors import ConfigError

Backend = Literal["documents", "varlen", "flex"]
BLOCK = 128
"""Side of FlexAttention's blocks, which is its default."""
_CAUSAL = (-1, 0)
_VARLEN_GROUPS_HEADS = "enable_gqa" in inspect.signature(varlen_attn).parameters
"""Whether this torch's varlen_attn takes fewer key heads than query heads (2.11 does not)."""


@dataclass(frozen=True)
class Run:
    """`queries` consecutive queries of one document, which see the keys from `first` up to `stop`.

    `mask` is the causal mask where there are fewer queries than keys; None where there are as many.
    """

    queries: int
    first: int
    stop: int
    mask: CausalBias | None = None

    @classmethod
    def part(cls, queries: int, first: int, stop: int) -> Run:
        """The last queries of a document up to `stop`."""
        keys = stop - first
        return cls(queries, first, stop, causal_lower_right(queries, keys) if queries < keys else None)


@dataclass(frozen=True)
class Documents:
    """What the tokens of a batch may see among `keys` keys.

    `gather` collects the keys and values of whole rows where a rank holds only a part of them:
    [2, B, t, heads, size] -> [2, B, T, heads, size].
    """

    runs: Sequence[Run]
    keys: int
    device: torch.device
    backend: Backend = "documents"
    gather: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def packed(cls, lengths: Sequence[int], device: torch.device, backend: Backend = "documents") -> Documents:
        """Whole documents of these lengths, one after the other."""
        runs, at = [], 0
        for length in lengths:
            runs.append(Run(length, at, at + length))
            at += length
        return cls(runs, at, device, backend)

    @cached_property
    def pairs(self) -> int:
        """The number of (query, visible key) pairs."""
        return sum(run.queries * (run.stop - run.first) - run.queries * (run.queries - 1) // 2 for run in self.runs)

    @cached_property
    def query_starts(self) -> Tensor:
        """int32 [runs + 1]: where each run's queries begin, and their end."""
        return self._starts([run.queries for run in self.runs])

    @cached_property
    def key_starts(self) -> Tensor:
        """int32 [runs + 1]: the same for the keys, as `take_keys` lays them out."""
        return self.query_starts if self._keys_are_queries else self._starts([r.stop - r.first for r in self.runs])

    @cached_property
    def longest(self) -> tuple[int, int]:
        """The largest number of queries, and of keys, in a run."""
        return max(run.queries for run in self.runs), max(run.stop - run.first for run in self.runs)

    def prepare(self) -> Documents:
        """Build now what the backend reads, and return self: a compiled layer may read it, but not build it."""
        if self.backend == "varlen":
            _ = self.query_starts, self.key_starts, self.longest
            if not self._keys_are_queries:
                _ = self._key_numbers
        elif self.backend == "flex":
            _ = self.block_mask
        return self

    def take_keys(self, x: Tensor) -> Tensor:
        """Keys or values [K, heads, size], the spans of the runs concatenated."""
        # The backward of x[numbers] sorts the numbers; the backward of this adds in place.
        return x if self._keys_are_queries else x.index_select(0, self._key_numbers)

    @cached_property
    def spans(self) -> tuple[Tensor, Tensor]:
        """int32 [Q] each: the first key that a query sees, and the end of its span."""
        queries = torch.tensor([run.queries for run in self.runs])
        first = torch.tensor([run.first for run in self.runs]).repeat_interleave(queries)
        stop = torch.tensor([run.stop for run in self.runs]).repeat_interleave(queries)
        ends = queries.cumsum(0).repeat_interleave(queries)
        stop -= ends - 1 - torch.arange(len(stop))
        return to_device(first.int(), self.device), to_device(stop.int(), self.device)

    @cached_property
    def mask(self) -> Tensor:
        """bool [Q, K]: the allowed pairs, for reference and small sizes."""
        first, stop = self.spans
        keys = torch.arange(self.keys, device=self.device)
        return (keys >= first[:, None]) & (keys < stop[:, None])

    @cached_property
    def block_mask(self) -> BlockMask:
        """FlexAttention's mask, from the spans alone: the [Q, K] pairs are never listed."""
        return block_mask([self.spans], self.keys)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """See `attend`."""
        return attend(q, k, v, self, dropout)

    @cached_property
    def _keys_are_queries(self) -> bool:
        return self.gather is None and all(run.mask is None for run in self.runs)

    @cached_property
    def _key_numbers(self) -> Tensor:
        return to_device(torch.cat([torch.arange(run.first, run.stop) for run in self.runs]), self.device)

    def _starts(self, lengths: Sequence[int]) -> Tensor:
        return to_device(functional.pad(torch.tensor(lengths).cumsum(0), (1, 0)).int(), self.device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from host memory to the device; the host does not wait for a GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Visible(Protocol):
    """What the tokens of a batch may see."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """Attention [B, t, heads, size] of queries [B, t, heads, size] to keys and values [B, t, kv_heads, size]."""


def block_mask(spans: Sequence[tuple[Tensor, Tensor]], keys: int) -> BlockMask:
    """FlexAttention's mask of queries that see the keys in any of their spans, each int32 [Q] first and [Q] stop.

    A block is full if every query in it sees every key within one span; other blocks check each pair.
    """
    queries, device = len(spans[0][0]), spans[0][0].device
    rows = -(-queries // BLOCK)
    begins = torch.arange(0, keys, BLOCK, device=device)
    ends = (begins + BLOCK).clamp(max=keys)
    needed = torch.zeros(rows, len(begins), dtype=torch.bool, device=device)
    full = torch.zeros_like(needed)
    for span in spans:
        # The last block is padded with its last query.
        first, stop = (torch.cat((x, x[-1:].expand(rows * BLOCK - queries))).view(rows, BLOCK) for x in span)
        needed |= (begins < stop.amax(1, keepdim=True)) & (ends > first.amin(1, keepdim=True))
        full |= (begins >= first.amax(1, keepdim=True)) & (ends <= stop.amin(1, keepdim=True))

    def allowed(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        is_seen = (key >= spans[0][0][query]) & (key < spans[0][1][query])
        for first, stop in spans[1:]:
            is_seen = is_seen | ((key >= first[query]) & (key < stop[query]))
        return is_seen

    return BlockMask.from_kv_blocks(
        *_listed(needed & ~full), *_listed(full), BLOCK, allowed, seq_lengths=(queries, keys)
    )


def choose_backend(device: torch.device, dtype: torch.dtype, dropout: float) -> Backend:
    """The fastest backend that applies: `varlen` needs CUDA and 16 bits, `flex` has no dropout."""
    if device.type != "cuda":
        return "documents"
    if dtype in (torch.float16, torch.bfloat16):
        return "varlen"
    return "documents" if dropout else "flex"


def attend(q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: float = 0.0) -> Tensor:
    """Attention [B, t, heads, size] of queries [B, t, heads, size] to keys and values [B, t, kv_heads, size].

    Each key head serves heads / kv_heads query heads. Raises ConfigError for dropout under a backend that has none.
    """
    if dropout and documents.backend == "flex":
        raise ConfigError(
            f"attention flex has no dropout and model.attention_dropout is {dropout}; set it to 0, or "
            "parallel.attention to auto."
        )
    if documents.gather is not None:
        k, v = documents.gather(torch.stack((k, v))).unbind()
    queries, keys, values = (x.flatten(0, 1) for x in (q, k, v))
    if documents.backend == "varlen":
        mixed = _attend_varlen(queries, keys, values, documents, dropout)
    elif documents.backend == "flex":
        mixed = attend_flex(queries, keys, values, documents.block_mask)
    else:
        mixed = _attend_runs(queries, keys, values, documents, dropout)
    return mixed.view(q.shape)


# A loop over lengths that differ in each batch would be recompiled for each.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attend_runs(q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: float) -> Tensor:
    parts, at = [], 0
    for run in documents.runs:
        spans = (q[at : at + run.queries], k[run.first : run.stop], v[run.first : run.stop])
        at += run.queries
        query, key, value = (x.transpose(0, 1).unsqueeze(0) for x in spans)
        mixed = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=run.mask,
            dropout_p=dropout,
            is_causal=run.mask is None,
            enable_gqa=True,
        )
        parts.append(mixed.squeeze(0).transpose(0, 1))
    return torch.cat(parts)


def _attend_varlen(q: Tensor, k: Tensor, v: Tensor, documents: Documents, dropout: float) -> Tensor:
    k, v = documents.take_keys(k), documents.take_keys(v)
    groups_heads = k.shape[1] != q.shape[1]
    if groups_heads and not _VARLEN_GROUPS_HEADS:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        groups_heads = False
    spans = (documents.query_starts, documents.key_starts, *documents.longest)
    if dropout:  # the kernel knows it, `varlen_attn` does not
        dropped: Tensor = torch.ops.aten._flash_attention_forward(q, k, v, *spans, dropout, True, False)[0]
        return dropped
    options: dict[str, Any] = {"enable_gqa": True} if groups_heads else {}
    mixed: Tensor = varlen_attn(q, k, v, *spans, window_size=_CAUSAL, **options)  # type: ignore[assignment]
    return mixed


def attend_flex(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask) -> Tensor:
    """FlexAttention [Q, heads, size] under a mask."""
    attention: Any = _compiled_flex() if q.device.type == "cuda" else flex_attention
    heads = [x.transpose(0, 1).unsqueeze(0) for x in (q, k, v)]
    mixed: Tensor = attention(*heads, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
    return mixed.squeeze(0).transpose(0, 1)


@cache
def _compiled_flex() -> Callable[..., Any]:
    return torch.compile(flex_attention)


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """bool [rows, columns] in FlexAttention's form: int32 counts [1, 1, rows], and columns with the true ones first."""
    order = blocks.int().argsort(dim=1, descending=True, stable=True)
    return blocks.sum(1).int()[None, None], order.int()[None, None]
