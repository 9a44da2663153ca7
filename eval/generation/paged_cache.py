"""A KV cache in pages: a row takes the pages that it needs, and rows that begin alike share those of their beginning
(Kwon et al. 2023, arXiv 2309.06180).

Pages that are shared are full, and a row writes behind what it holds, so none is written while it is shared: the last,
which is not full, is copied when a row takes over the beginning of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from reelmill.eval.generation.cache import KVCache
from reelmill.eval.generation.cache_view import PAGE, GatheredView, PagedView, View, reads_pages
from reelmill.eval.generation.sharing import Opening
from reelmill.train.attention import Backend
from reelmill.train.model import ModelConfig


def pages_of(tokens: int) -> int:
    """Pages that hold so many tokens."""
    return -(-tokens // PAGE)


class PagedCache(KVCache):
    """Buffers [pages, kv_heads, PAGE, head_size], two a layer, and the numbers of each row's pages.

    `tokens`: the most that all rows hold together, what they share counted once; None is room for `rows` times
    `capacity`. `open` must give a row its pages before it reads. Page 0 is nobody's: rows that are not open write it.
    """

    def __init__(
        self,
        config: ModelConfig,
        rows: int,
        capacity: int,
        like: Tensor,
        *,
        vertical: bool = False,
        tokens: int | None = None,
    ) -> None:
        self.pages = rows * pages_of(capacity) if tokens is None else pages_of(tokens)
        super().__init__(config, rows, capacity, like, vertical=vertical)
        # At one address, which captured steps read.
        self._table = torch.zeros(rows, pages_of(capacity), dtype=torch.int32, device=like.device)
        self._own: list[list[int]] = [[] for _ in range(rows)]
        self._users = [0] * (self.pages + 1)
        self._free = list(range(self.pages, 0, -1))

    def _shape(self, config: ModelConfig, rows: int, capacity: int) -> tuple[int, int, int, int]:
        return self.pages + 1, config.kv_heads, PAGE, config.head_size

    @property
    def used_pages(self) -> int:
        """Pages that rows have, each counted once."""
        return self.pages - len(self._free)

    def could_hold(self, tokens: Sequence[int]) -> bool:
        """Whether rows of so many tokens fit in all of it."""
        return sum(map(pages_of, tokens)) <= self.pages

    def has_room(self, openings: Sequence[Opening]) -> bool:
        """Whether these rows can be opened now."""
        needed = sum(pages_of(opening.tokens) - opening.count // PAGE for opening in openings)
        return needed <= len(self._free)

    def open(self, row: int, opening: Opening) -> None:
        """Give an empty row its pages: those that it shares, and its own."""
        full, rest = divmod(opening.count, PAGE)
        source = self._own[opening.source]
        assert not self._own[row] and opening.count <= self.lengths[opening.source]
        pages = source[:full] + [self._free.pop() for _ in range(pages_of(opening.tokens) - full)]
        if rest:
            for buffer in (*self.keys, *self.values):
                buffer[pages[full], :, :rest] = buffer[source[full], :, :rest]
        for page in pages:
            self._users[page] += 1
        self._assign(row, pages)
        self.lengths[row] = opening.count

    def move(self, source: int, target: int, behind: int = 0) -> None:
        """Move the sequence of row `source` to row `target`: its pages change hands."""
        self.lengths[target], self.lengths[source] = self.lengths[source], 0
        self._assign(target, self._own[source])
        self._assign(source, [])

    def clear(self, rows: Iterable[int]) -> None:
        """Empty rows. Pages that no other row shares are free again."""
        for row in rows:
            for page in self._own[row]:
                self._users[page] -= 1
                if not self._users[page]:
                    self._free.append(page)
            self._assign(row, [])
            self.lengths[row] = 0

    def _assign(self, row: int, pages: list[int]) -> None:
        self._own[row] = pages
        numbers = torch.zeros(self._table.shape[1], dtype=torch.int32)
        numbers[: len(pages)] = torch.tensor(pages, dtype=torch.int32)
        self._table[row] = numbers.to(self.device)

    def _store_at(self, rows: slice, positions: Tensor) -> None:
        self._places = self._table[rows].gather(1, positions // PAGE).long(), positions % PAGE

    def _view_of(self, rows: slice, positions: Tensor, span: int, *, both_ways: bool) -> View:
        return PagedView(self._table[rows], (positions[:, -1] + 1).int(), span, not both_ways)

    def _masked_view(self, rows: slice, allowed: Tensor) -> View:
        return GatheredView(self._table[rows, : pages_of(allowed.shape[-1])], allowed)


def kv_cache(
    config: ModelConfig,
    rows: int,
    capacity: int,
    like: Tensor,
    *,
    vertical: bool = False,
    backend: Backend | None = None,
    tokens: int | None = None,
) -> KVCache:
    """The cache for models of the device and type of `like`: in pages where attention reads those (`backend`: by which
    way, None for the fastest), else a row a sequence. `tokens`: see `PagedCache`; else it has no meaning."""
    if reads_pages(like, config.head_size, backend):
        return PagedCache(config, rows, capacity, like, vertical=vertical, tokens=tokens)
    return KVCache(config, rows, capacity, like, vertical=vertical)
