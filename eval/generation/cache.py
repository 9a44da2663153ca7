"""The KV cache: keys and values of all sequences, in buffers that are allocated once.

Each sequence owns a row. Rows have their own lengths, so sequences of different sizes decode together, and the row of a
finished sequence is reused by another (`move`). `paged_cache.py` has one in pages, which rows can share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from reelmill.errors import MachineError
from reelmill.eval.generation.cache_view import MaskedView, View
from reelmill.eval.generation.sharing import Opening
from reelmill.train.model import ModelConfig


class KVCache:
    """Buffers for `rows` sequences of at most `capacity` tokens: [rows, kv_heads, capacity, head_size], two a layer.

    `vertical`: the layers of the decoder's second head have theirs too. Device and type are those of `like`.
    """

    def __init__(
        self,
        config: ModelConfig,
        rows: int,
        capacity: int,
        like: Tensor,
        *,
        vertical: bool = False,
    ) -> None:
        layers = config.layers + (config.vertical_layers if vertical else 0)
        shape = self._shape(config, rows, capacity)
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
        self._places: tuple[Tensor, Tensor]
        """Where the new tokens are stored: of each, the first and the third index into a buffer."""
        self._view: View

    def _shape(self, config: ModelConfig, rows: int, capacity: int) -> tuple[int, int, int, int]:
        return rows, config.kv_heads, capacity, config.head_size

    @property
    def device(self) -> torch.device:
        """The device of the buffers."""
        return self.keys[0].device

    @property
    def layers(self) -> int:
        """Layers that have buffers."""
        return len(self.keys)

    def could_hold(self, tokens: Sequence[int]) -> bool:
        """Whether rows of so many tokens, each at most the capacity, fit in all of it."""
        return len(tokens) <= len(self.lengths)

    def has_room(self, openings: Sequence[Opening]) -> bool:
        """Whether these rows can be opened now, if so many are empty."""
        return True

    def open(self, row: int, opening: Opening) -> None:
        """Make an empty row ready to read: it begins with what it shares, as a copy."""
        assert opening.count <= self.lengths[opening.source]
        for buffer in (*self.keys, *self.values):
            buffer[row, :, : opening.count] = buffer[opening.source, :, : opening.count]
        self.lengths[row] = opening.count

    def reserve(self, rows: slice, count: int, *, both_ways: bool = False) -> Tensor:
        """Prepare to read `count` tokens in each of these rows; returns their positions, int64 [rows, count].

        Each row's tokens follow those that it holds. They count from when `advance` says how many stay. If they see
        `both_ways`, each of them attends to all of them.
        """
        before = self.lengths[rows]
        assert max(before) + count <= self.capacity
        first = torch.tensor(before, device=self.device)[:, None]
        positions = first + torch.arange(count, device=self.device)
        self.prepare(rows, positions, max(before) + count, both_ways=both_ways)
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
        self._store_at(rows, positions)
        allowed = (torch.arange(span, device=self.device) < before)[:, None].repeat(1, len(places), 1)
        behind = before + torch.arange(seen.shape[1], device=self.device)
        for row, columns in enumerate(behind):
            allowed[row, :, columns] = seen
        self._view = self._masked_view(rows, allowed[:, None])
        return positions

    def advance(self, row: int, count: int) -> None:
        """Keep the first `count` tokens that the row has read since its length was last set."""
        self.lengths[row] += count
        assert self.lengths[row] <= self.capacity

    def prepare(self, rows: slice, positions: Tensor, span: int, *, both_ways: bool = False) -> None:
        """Make `attend` store tokens of these rows at consecutive `positions` int64 [rows, n] and attend to the first
        `span` tokens, each up to its own position, or all up to the last one if they see `both_ways`.

        Nothing here synchronizes with the device or depends on the values of the positions, so a step can be captured
        and compiled.
        """
        self._store_at(rows, positions)
        self._view = self._view_of(rows, positions, span, both_ways=both_ways)

    def _store_at(self, rows: slice, positions: Tensor) -> None:
        self._places = torch.arange(rows.start, rows.stop, device=self.device)[:, None], positions

    def _view_of(self, rows: slice, positions: Tensor, span: int, *, both_ways: bool) -> View:
        last = positions[:, -1:] if both_ways else positions
        # bool [rows, 1, n, span]: each token attends to itself and all before it.
        return MaskedView(rows, (torch.arange(span, device=self.device) <= last[..., None])[:, None])

    def _masked_view(self, rows: slice, allowed: Tensor) -> View:
        return MaskedView(rows, allowed)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `reelmill.train.model.Cache`. `prepare` says which tokens these are."""
        keys, values = self.keys[layer], self.values[layer]
        first, third = self._places
        for buffer, new in ((keys, k), (values, v)):
            buffer[first, :, third] = new
        return self._view.attend(q, keys, values)

    def move(self, source: int, target: int, behind: int = 0) -> None:
        """Move the sequence of row `source` to row `target`, and `behind` tokens after those that count."""
        length = self.lengths[source]
        for buffer in (*self.keys, *self.values):
            buffer[target, :, : length + behind] = buffer[source, :, : length + behind]
        self.lengths[target] = length
        self.clear([source])

    def clear(self, rows: Iterable[int]) -> None:
        """Empty rows."""
        for row in rows:
            self.lengths[row] = 0
