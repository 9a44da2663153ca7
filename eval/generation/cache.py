"""The KV cache: keys and values of all sequences, in buffers that are allocated once.

Each sequence owns a row. Rows have their own lengths, so sequences of different sizes decode together, and the row of a
finished sequence is reused by another (`move`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from reelmill.errors import MachineError
from reelmill.train.model import ModelConfig


class KVCache:
    """Buffers for `rows` sequences of at most `capacity` tokens: [rows, kv_heads, capacity, head_size], two a layer.

    `vertical`: the layers of the decoder's second head have theirs too.
    """

    def __init__(self, config: ModelConfig, rows: int, capacity: int, like: Tensor, *, vertical: bool = False) -> None:
        layers = config.layers + (config.vertical_layers if vertical else 0)
        shape = (rows, config.kv_heads, capacity, config.head_size)
        try:
            self.keys = [torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(layers)]
            self.values = [torch.zeros_like(keys) for keys in self.keys]
        except RuntimeError as error:  # out of memory, on a GPU or on the CPU
            size = 2 * layers * math.prod(shape) * like.element_size()
            raise MachineError(
                f"the cache of {rows} rows of {capacity:,} tokens takes {size / 2**30:,.1f} GiB, which {like.device} "
                "does not have; generate fewer rows at a time, smaller pictures or shorter videos"
            ) from error
        self.capacity = capacity
        self.lengths = [0] * rows
        self._rows = slice(0, rows)
        self._numbers = self._positions = self._allowed = torch.empty(0)

    @property
    def device(self) -> torch.device:
        """The device of the buffers."""
        return self.keys[0].device

    @property
    def layers(self) -> int:
        """Layers that have buffers."""
        return len(self.keys)

    def reserve(self, rows: slice, count: int, *, both_ways: bool = False) -> Tensor:
        """Prepare to read `count` tokens in each of these rows; returns their positions, int64 [rows, count].

        Each row's tokens follow those that it holds. They count from when `advance` says how many stay. If they see
        `both_ways`, each of them attends to all of them.
        """
        before = self.lengths[rows]
        assert max(before) + count <= self.capacity
        first = torch.tensor(before, device=self.device)[:, None]
        positions = first + torch.arange(count, device=self.device)
        self.prepare(rows, positions, max(before) + count)
        if both_ways:
            self._allowed = self._allowed[:, :, -1:]
        return positions

    def reserve_at(self, rows: slice, places: Tensor, seen: Tensor) -> Tensor:
        """Prepare to read tokens at `places` int64 [n] behind those that each of these rows holds; returns their
        positions, int64 [rows, n].

        Of the places behind those that a row holds, each token attends to those that `seen` bool [n, m] says.
        """
        before = torch.tensor(self.lengths[rows], device=self.device)[:, None]
        positions = before + places
        span = int(before.max()) + seen.shape[1]
        assert span <= self.capacity
        self.prepare(rows, positions, span)
        allowed = (torch.arange(span, device=self.device) < before)[:, None].repeat(1, len(places), 1)
        behind = before + torch.arange(seen.shape[1], device=self.device)
        for row, columns in enumerate(behind):
            allowed[row, :, columns] = seen
        self._allowed = allowed[:, None]
        return positions

    def advance(self, row: int, count: int) -> None:
        """Keep the first `count` tokens that the row has read since its length was last set."""
        self.lengths[row] += count
        assert self.lengths[row] <= self.capacity

    def prepare(self, rows: slice, positions: Tensor, span: int) -> None:
        """Make `attend` store tokens of these rows at `positions` int64 [rows, n] and attend to the first `span`
        tokens, each up to its own position.

        Nothing here synchronizes with the device or depends on the values of the positions, so a step can be captured
        and compiled.
        """
        self._rows, self._positions = rows, positions
        self._numbers = torch.arange(rows.start, rows.stop, device=self.device)[:, None]
        # bool [rows, 1, n, span]: each token attends to itself and all before it.
        self._allowed = (torch.arange(span, device=self.device) <= positions[..., None])[:, None]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `reelmill.train.model.Cache`. `prepare` says which tokens these are."""
        batch, count, heads, size = q.shape
        span, kv_heads = self._allowed.shape[-1], k.shape[2]
        keys, values = self.keys[layer], self.values[layer]
        for buffer, new in ((keys, k), (values, v)):
            buffer[self._numbers, :, self._positions] = new
        keys, values = keys[self._rows, :, :span], values[self._rows, :, :span]
        # With one token, the heads that share keys are queries at one position: no keys need to be repeated.
        q = q.view(batch, kv_heads, heads // kv_heads, size) if count == 1 else q.transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(q, keys, values, attn_mask=self._allowed, enable_gqa=count > 1)
        return mixed.reshape(batch, 1, heads, size) if count == 1 else mixed.transpose(1, 2)

    def move(self, source: int, target: int, behind: int = 0) -> None:
        """Move the sequence of row `source` to row `target`, and `behind` tokens after those that count."""
        length = self.lengths[source]
        for buffer in (*self.keys, *self.values):
            buffer[target, :, : length + behind] = buffer[source, :, : length + behind]
        self.lengths[target] = length
        self.clear([source])

    def copy(self, source: int, target: int, count: int) -> None:
        """Give the empty row `target` the first `count` tokens of row `source`."""
        assert count <= self.lengths[source]
        for buffer in (*self.keys, *self.values):
            buffer[target, :, :count] = buffer[source, :, :count]
        self.lengths[target] = count

    def clear(self, rows: Sequence[int]) -> None:
        """Empty rows."""
        for row in rows:
            self.lengths[row] = 0
