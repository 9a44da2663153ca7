"""The step of decoding: one more token of each row at work, read in one forward pass.

At the shapes that are there, or at few fixed ones (`static`): then what is done does not depend on how long sequences
are, so that `torch.compile` makes it once, and on a GPU it is captured as a CUDA graph and replayed, without the time
that Python and the launches of some hundred kernels take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reelmill.eval.generation.cache import KVCache
from reelmill.train.model import Decoder

SPAN = 1024
"""Static steps attend to a multiple of so many tokens."""


class Step:
    """Reads tokens of the first rows of a cache. See `Engine` for `static` and `compile`."""

    def __init__(self, model: Decoder, cache: KVCache, *, static: bool | None = None, compile: bool = False) -> None:
        self.model, self.cache, self.compiled = model, cache, compile
        is_cuda = cache.device.type == "cuda"
        self.static = compile or (is_cuda if static is None else static)
        rows = len(cache.lengths)
        self._tokens = torch.zeros(rows, 1, dtype=torch.int64, device=cache.device)
        self._positions = torch.zeros_like(self._tokens)
        read = torch.compile(self._read, fullgraph=True, dynamic=False) if compile else self._read
        self._run = _Graphs(read) if is_cuda and self.static else read

    def __call__(self, tokens: Sequence[int]) -> Tensor:
        """Hidden states [rows, hidden] of a token for each of the first rows. The next call may overwrite them."""
        rows = len(tokens)
        ids = torch.tensor(tokens)[:, None]
        if not self.static:
            positions = self.cache.open(slice(0, rows), 1)
            hidden: Tensor = self.model(ids.to(self.cache.device), positions, cache=self.cache)
            return hidden[:, 0]
        before = self.cache.advance(slice(0, rows), 1)
        # The rows beyond read a token 0 at position 0; what they keep there is overwritten when they are taken.
        self._tokens[:rows].copy_(ids)
        self._positions[:rows].copy_(torch.tensor(before)[:, None])
        self._positions[rows:] = 0
        return self._run(*self.shape(rows, max(before) + 1))[:rows]

    def shape(self, rows: int, tokens: int) -> tuple[int, int]:
        """Rows and tokens that a static step computes: all that there are where it is compiled, else few sizes."""
        if self.compiled:
            return len(self.cache.lengths), self.cache.capacity
        power = 1 << (rows - 1).bit_length()
        return min(power, len(self.cache.lengths)), min(-(-tokens // SPAN) * SPAN, self.cache.capacity)

    def _read(self, rows: int, span: int) -> Tensor:
        """Hidden states [rows, hidden] of what lies in the buffers."""
        positions = self._positions[:rows]
        self.cache.look(slice(0, rows), positions, span)
        hidden: Tensor = self.model(self._tokens[:rows], positions, cache=self.cache)
        return hidden[:, 0]


class _Graphs:
    """A function of (rows, span) that works on buffers of fixed place, captured once for each of their values."""

    def __init__(self, function: Callable[[int, int], Tensor]) -> None:
        self.function = function
        self._captured: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, rows: int, span: int) -> Tensor:
        if (rows, span) not in self._captured:
            self._captured[rows, span] = self._capture(rows, span)
        graph, hidden = self._captured[rows, span]
        graph.replay()
        return hidden

    def _capture(self, rows: int, span: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        # Once before: libraries allocate their workspaces, and what is compiled is compiled, outside of the capture.
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self.function(rows, span)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            hidden = self.function(rows, span)
        return graph, hidden
