"""Keys and values of the tokens that sequences have so far, in buffers that are made once.

Each sequence owns a row. Rows have lengths of their own, so that sequences of several sizes decode together, and a row
whose sequence has ended is taken by another (`move`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from reelmill.train.model import ModelConfig


class KVCache:
    """Buffers for `rows` sequences of at most `capacity` tokens: [layers, rows, kv_heads, capacity, head_size] each."""

    def __init__(self, config: ModelConfig, rows: int, capacity: int, like: Tensor) -> None:
        shape = (config.layers, rows, config.kv_heads, capacity, config.head_size)
        self.keys = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.values = torch.zeros_like(self.keys)
        self.lengths = [0] * rows
        self._rows = slice(0, rows)
        self._place = self._allowed = torch.empty(0)

    @property
    def capacity(self) -> int:
        """Tokens that a row can hold."""
        return self.keys.shape[3]

    def open(self, rows: slice, count: int) -> Tensor:
        """Make ready for `count` new tokens of each of these rows; returns their positions, int64 [rows, count].

        Several tokens at once are taken of rows that have equally many so far.
        """
        before = self.lengths[rows]
        assert count == 1 or len(set(before)) == 1
        assert max(before) + count <= self.capacity
        device = self.keys.device
        first = torch.tensor(before, device=device)[:, None]
        positions = first + torch.arange(count, device=device)
        self._rows, self._place = rows, first
        # bool [rows, 1, count, tokens so far and new ones]: each token sees all up to itself.
        self._allowed = (torch.arange(max(before) + count, device=device) <= positions[..., None])[:, None]
        for row in range(*rows.indices(len(self.lengths))):
            self.lengths[row] += count
        return positions

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `reelmill.train.model.Cache`; the tokens are those that were made ready for."""
        keys, values = self.keys[layer, self._rows], self.values[layer, self._rows]
        batch, count, heads, size = q.shape
        total, kv_heads = self._allowed.shape[-1], keys.shape[1]
        if count == 1:
            place = self._place[:, :, None, None].expand(batch, kv_heads, 1, size)
            keys.scatter_(2, place, k.transpose(1, 2))
            values.scatter_(2, place, v.transpose(1, 2))
            # The heads that share keys are as many queries at one place: nothing has to be repeated.
            q = q.view(batch, kv_heads, heads // kv_heads, size)
        else:
            keys[:, :, total - count : total] = k.transpose(1, 2)
            values[:, :, total - count : total] = v.transpose(1, 2)
            q = q.transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(
            q, keys[:, :, :total], values[:, :, :total], attn_mask=self._allowed, enable_gqa=count > 1
        )
        return mixed.view(batch, 1, heads, size) if count == 1 else mixed.transpose(1, 2)

    def move(self, source: int, target: int) -> None:
        """Give the sequence of row `source` the row `target`."""
        length = self.lengths[source]
        for buffer in (self.keys, self.values):
            buffer[:, target, :, :length] = buffer[:, source, :, :length]
        self.lengths[target] = length
        self.clear([source])

    def clear(self, rows: Sequence[int]) -> None:
        """Empty rows."""
        for row in rows:
            self.lengths[row] = 0
