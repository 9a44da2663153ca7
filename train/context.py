"""Context parallelism: several ranks share the positions of each row, and the queries of each rank see all keys.

With C ranks a row is split into 2C equal chunks, and rank i holds the i-th from the start and the i-th from the end. If
a row is one document, the causal mask then gives every rank the same work; with several documents, about the same. Keys
and values are gathered from all ranks before attention, which works with any mask, and their gradients are summed over
the ranks, as in Llama 3 (arXiv 2407.21783, section 3.3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from reelmill.train.attention import Backend, Documents, Run


@dataclass(frozen=True)
class ContextPart:
    """The part of every row that this rank holds; the 1-D `mesh` contains the ranks that share the rows."""

    mesh: DeviceMesh

    @property
    def size(self) -> int:
        """The number of ranks that share the rows."""
        return self.mesh.size()

    def chunks(self, row: int) -> tuple[range, range]:
        """The two chunks of a row of that length, a multiple of 2 * size."""
        chunk = row // (2 * self.size)
        index = self.mesh.get_local_rank()
        first, last = index * chunk, (2 * self.size - 1 - index) * chunk
        return range(first, first + chunk), range(last, last + chunk)

    def columns(self, row: int) -> npt.NDArray[np.int64]:
        """The positions of a row that are held here, in order."""
        return np.concatenate([np.array(chunk, dtype=np.int64) for chunk in self.chunks(row)])

    def documents(self, lengths: Sequence[int], row: int, device: torch.device, backend: Backend) -> Documents:
        """What this part of rows of `row` tokens may see; `lengths` are the document lengths of the whole rows."""
        runs, at = [], 0
        for length in lengths:
            begin, at = at, at + length
            in_row = begin - begin % row
            for chunk in self.chunks(row):
                first, stop = max(begin, in_row + chunk.start), min(at, in_row + chunk.stop)
                if first < stop:
                    runs.append((first, Run.part(stop - first, begin, stop)))
        in_order = [run for _, run in sorted(runs, key=lambda numbered: numbered[0])]
        return Documents(in_order, at, device, backend, self.gather)

    def gather(self, x: Tensor) -> Tensor:
        """[n, B, t, ...], this rank's columns -> [n, B, T, ...], all columns in the order of the row."""
        shared = DTensor.from_local(x.unsqueeze(0), self.mesh, [Shard(0)], run_check=False)
        parts = shared.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])
        first, last = parts.chunk(2, dim=3)
        return torch.cat((*first.unbind(), *last.flip(0).unbind()), dim=2)
