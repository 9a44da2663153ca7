"""The nearest of many vectors, exactly, without looking at most of them: for inference on a CPU.

The vectors of a codebook are divided into the cells of k-means. A cell may be left out for a query when the nearest
vector found so far is nearer than anything in the cell can be: by the cell's radius, or by the plane halfway between
its center and that of the query's own cell (Elkan 2003, "Using the triangle inequality to accelerate k-means").
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_CELLS = 128
"""Fewer leave out less, more have too few vectors each for a matrix product to pay; for 32,768 codes."""
_ROUNDS = 8
_SLACK = 64 * torch.finfo(torch.float32).eps
"""Room for rounding in the bounds, as a share of the squared lengths that are added up."""


class Cells:
    """A codebook in cells. `book`: [K, D] float32, K at least `_CELLS`; building it takes 0.3 s for 32,768 x 32."""

    def __init__(self, book: Tensor) -> None:
        cell, centers = _k_means(book)
        counts = torch.bincount(cell, minlength=_CELLS)
        # Stable: within a cell the codes ascend, so that the first of several equal vectors is the lowest.
        self.codes = torch.split(cell.argsort(stable=True), counts[counts > 0].tolist())
        self.centers = centers[counts > 0]
        norms = book.square().sum(1)
        self.longest = float(norms.max())
        # |v - c|^2 without |v|^2 is one product, [v, 1] by [-2c, |c|^2].
        self.factors = [torch.cat([-2 * book[codes].T, norms[None, codes]]) for codes in self.codes]
        pairs = zip(self.codes, self.centers, strict=True)
        self.radii = torch.stack([(book[codes] - center).norm(dim=1).max() for codes, center in pairs])
        self.between = _distances(self.centers, self.centers)

    def nearest(self, vectors: Tensor) -> Tensor:
        """For each of [N, D] vectors, the index of the nearest row of the book; ties go to the lowest."""
        count = len(vectors)
        queries, norms = F.pad(vectors, (0, 1), value=1.0), vectors.square().sum(1)
        distances = _distances(vectors, self.centers)
        own = distances.argmin(1)
        lowest = vectors.new_full((len(self.codes), count), math.inf)
        self._look(queries, _by_cell(own, len(self.codes)), lowest)
        rounding = _SLACK * (norms + self.longest)
        bound = (lowest.gather(0, own[None])[0] + norms + rounding).clamp_(min=0).sqrt_()
        near = distances.gather(1, own[:, None])
        beyond = distances.square() - near.square() - rounding[:, None]
        planes = beyond / (2 * self.between[own]).clamp(min=torch.finfo(vectors.dtype).tiny)
        wanted = torch.maximum(distances - self.radii, planes) <= bound[:, None]
        wanted.scatter_(1, own[:, None], value=False)
        cells, rows = wanted.T.nonzero(as_tuple=True)
        self._look(queries, torch.split(rows, torch.bincount(cells, minlength=len(self.codes)).tolist()), lowest)
        return self._first(queries, lowest)

    def _look(self, queries: Tensor, rows: Sequence[Tensor], lowest: Tensor) -> None:
        """Write into `lowest` [cells, N] how near each cell comes to those queries whose rows stand beside it."""
        for factors, some, found in zip(self.factors, rows, lowest, strict=True):
            if len(some):
                found.index_copy_(0, some, (queries.index_select(0, some) @ factors).amin(1))

    def _first(self, queries: Tensor, lowest: Tensor) -> Tensor:
        """The nearest code of each query, given how near each cell comes; of several cells the lowest code."""
        found = torch.full((len(queries),), sum(map(len, self.codes)) - 1)
        cells, nearest = (lowest == lowest.amin(0)).nonzero(as_tuple=True)
        rows = torch.split(nearest, torch.bincount(cells, minlength=len(self.codes)).tolist())
        for codes, factors, some in zip(self.codes, self.factors, rows, strict=True):
            if len(some):
                code = codes[(queries.index_select(0, some) @ factors).argmin(1)]
                found[some] = torch.minimum(found[some], code)
        return found


def _by_cell(cell: Tensor, cells: int) -> Sequence[Tensor]:
    """For each cell the rows that are in it."""
    return torch.split(cell.argsort(stable=True), torch.bincount(cell, minlength=cells).tolist())


def _k_means(book: Tensor) -> tuple[Tensor, Tensor]:
    """The cell of each row and the centers, from a fixed seed: cells change what it costs, not what is found."""
    drawn = torch.randperm(len(book), generator=torch.Generator().manual_seed(0))[:_CELLS]
    centers = book[drawn].clone()
    for _ in range(_ROUNDS):
        cell = torch.cdist(book, centers).argmin(1)
        counts = torch.bincount(cell, minlength=_CELLS)[:, None]
        sums = torch.zeros_like(centers).index_add_(0, cell, book)
        centers = torch.where(counts > 0, sums / counts.clamp(min=1), centers)
    return _distances(book, centers).argmin(1), centers


def _distances(one: Tensor, other: Tensor) -> Tensor:
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
