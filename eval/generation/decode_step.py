"""One decoding step: every active row reads its next tokens, in a single forward pass.

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
    """Reads up to `width` tokens in each of the first rows of a cache. See `Engine` for `static` and `compile`."""

    def __init__(
        self, model: Decoder, cache: KVCache, width: int = 1, *, static: bool | None = None, compile: bool = False
    ) -> None:
        self.model, self.cache, self.compiled = model, cache, compile
        is_cuda = cache.device.type == "cuda"
        self.static = compile or (is_cuda if static is None else static)
        rows = len(cache.lengths)
        self._tokens = torch.zeros(rows, width, dtype=torch.int64, device=cache.device)
        self._positions = torch.zeros_like(self._tokens)
        read = torch.compile(self._read, fullgraph=True, dynamic=False) if compile else self._read
        self._run = _Graphs(read) if is_cuda and self.static else read

    def __call__(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Read the tokens of each of the first rows, as many as the longest has; shorter ones are padded.

        Returns hidden states [rows, tokens, hidden], which the next call may overwrite. The lengths of the rows stay:
        the caller says how many of the tokens count (`KVCache.advance`).
        """
        rows, count = len(tokens), max(map(len, tokens))
        ids = torch.tensor([[*row, *[0] * (count - len(row))] for row in tokens])
        if not self.static:
            positions = self.cache.reserve(slice(0, rows), count)
            hidden: Tensor = self.model(ids.to(self.cache.device), positions, cache=self.cache)
            return hidden
        count = 1 if count == 1 else self._tokens.shape[1]
        before = torch.tensor(self.cache.lengths[:rows])[:, None]
        # Unused rows and columns read token 0; what they store is overwritten before any token attends to it.
        self._tokens.zero_()
        self._positions.zero_()
        self._tokens[:rows, : ids.shape[1]].copy_(ids)
        self._positions[:rows].copy_(before + torch.arange(self._tokens.shape[1]))
        return self._run(*self.shape(rows, int(before.max()) + count), count)[:rows]

    def shape(self, rows: int, tokens: int) -> tuple[int, int]:
        """Rows and tokens that a static step computes: the whole cache if compiled, else one of a few sizes."""
        if self.compiled:
            return len(self.cache.lengths), self.cache.capacity
        power = 1 << (rows - 1).bit_length()
        return min(power, len(self.cache.lengths)), min(-(-tokens // SPAN) * SPAN, self.cache.capacity)

    def shapes(self) -> set[tuple[int, int, int]]:
        """All (rows, tokens, count) that static steps compute."""
        most = len(self.cache.lengths)
        powers = [1 << power for power in range((most - 1).bit_length() + 1)]
        spans = range(1, self.cache.capacity + SPAN, SPAN)
        counts = {1, self._tokens.shape[1]}
        return {
            (*self.shape(min(rows, most), tokens), count) for rows in powers for tokens in spans for count in counts
        }

    def capture(self) -> None:
        """On a GPU: capture the graphs of all shapes now. A later capture would meet the work of other threads."""
        if isinstance(self._run, _Graphs):
            for shape in sorted(self.shapes()):
                self._run(*shape)

    def _read(self, rows: int, span: int, count: int) -> Tensor:
        """Hidden states [rows, count, hidden] of the tokens in the buffers."""
        positions = self._positions[:rows, :count]
        self.cache.prepare(slice(0, rows), positions, span)
        hidden: Tensor = self.model(self._tokens[:rows, :count], positions, cache=self.cache)
        return hidden


class _Graphs:
    """A function of (rows, span, count) on buffers at fixed addresses, captured once for each shape."""

    def __init__(self, function: Callable[[int, int, int], Tensor]) -> None:
        self.function = function
        self._captured: dict[tuple[int, ...], tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, *shape: int) -> Tensor:
        if shape not in self._captured:
            self._captured[shape] = self._capture(*shape)
        graph, hidden = self._captured[shape]
        graph.replay()
        return hidden

    def _capture(self, rows: int, span: int, count: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        # Run once first: libraries allocate workspaces and torch.compile compiles outside of the capture.
        warmup = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        warmup.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warmup):
            self.function(rows, span, count)
        torch.cuda.current_stream().wait_stream(warmup)
        graph = torch.cuda.CUDAGraph()
        # What other threads do on the GPU meanwhile (a preview is decoded) is no part of this graph.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            hidden = self.function(rows, span, count)
        return graph, hidden
