"""One decoding step: every active row reads one token, in a single forward pass.

A step has either the shapes at hand or one of a few fixed shapes (`static`). With fixed shapes the work does not depend
on how long the sequences are, so `torch.compile` compiles it once, and on a GPU it is captured as a CUDA graph and
replayed. A replay saves the time that Python and several hundred kernel launches take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reelmill.eval.generation.cache import KVCache
from reelmill.train.model import Decoder

SPAN = 1024
"""Static steps attend to a multiple of this many tokens."""


class DecodeStep:
    """Reads one token in each of the first rows of a cache. See `Engine` for `static` and `compile`."""

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
        """Read a token in each of the first rows; returns hidden states [rows, hidden], which the next call may
        overwrite."""
        rows = len(tokens)
        ids = torch.tensor(tokens)[:, None]
        if not self.static:
            positions = self.cache.reserve(slice(0, rows), 1)
            hidden: Tensor = self.model(ids.to(self.cache.device), positions, cache=self.cache)
            return hidden[:, 0]
        before = self.cache.advance(slice(0, rows), 1)
        # Unused rows read token 0 at position 0; that entry is overwritten when the row is used.
        self._tokens[:rows].copy_(ids)
        self._positions[:rows].copy_(torch.tensor(before)[:, None])
        self._positions[rows:] = 0
        return self._run(*self.shape(rows, max(before) + 1))[:rows]

    def shape(self, rows: int, tokens: int) -> tuple[int, int]:
        """Rows and tokens that a static step computes: the whole cache if compiled, else one of a few sizes."""
        if self.compiled:
            return len(self.cache.lengths), self.cache.capacity
        power = 1 << (rows - 1).bit_length()
        return min(power, len(self.cache.lengths)), min(-(-tokens // SPAN) * SPAN, self.cache.capacity)

    def _read(self, rows: int, span: int) -> Tensor:
        """Hidden states [rows, hidden] of the tokens in the buffers."""
        positions = self._positions[:rows]
        self.cache.prepare(slice(0, rows), positions, span)
        hidden: Tensor = self.model(self._tokens[:rows], positions, cache=self.cache)
        return hidden[:, 0]


class _Graphs:
    """A function of (rows, span) on buffers at fixed addresses, captured once for each pair of values."""

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
        # Run once first: libraries allocate workspaces and torch.compile compiles outside of the capture.
        warmup = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        warmup.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warmup):
            self.function(rows, span)
        torch.cuda.current_stream().wait_stream(warmup)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            hidden = self.function(rows, span)
        return graph, hidden
