"""Quantizers: one vector per site to one integer code and back, behind one small interface.

Two are here: nearest-code vector quantization (Emu3's), and finite scalar quantization (FSQ; Mentzer et al. 2023,
"Finite Scalar Quantization: VQ-VAE Made Simple"), which has no codebook to collapse. A third is Emu3.5's
(`index_backprop.py`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelmill.errors import ConfigError
from reelmill.tokenize.vision.neighbors import Cells

_CPU_CHUNK, _GPU_CHUNK = 128, 8192
"""Sites compared with the codebook at once: on a CPU 128 x 32,768 distances (17 MB) stay near the cache."""
_GROUP = 256
_LEAST_FOR_CELLS = 4096
"""With a smaller codebook, comparing with all of it is as fast."""


class Quantized(NamedTuple):
    """A training pass. `vectors` [B, D, T, H, W] with a straight-through gradient, `codes` [B, T, H, W], `loss` the
    quantizer's own, a scalar, and `entropy` that of its choices, where it has one."""

    vectors: Tensor
    codes: Tensor
    loss: Tensor
    entropy: Tensor | None = None


class Quantizer(nn.Module, ABC):
    """The interface of a quantizer. Vectors are [B, D, T, H, W] float, codes [B, T, H, W] int64.

    `size` is the number of codes; a code lies in [0, size).
    """

    size: int

    @abstractmethod
    def encode(self, vectors: Tensor) -> Tensor:
        """Codes of the vectors."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Vectors of the codes."""

    @abstractmethod
    def forward(self, vectors: Tensor) -> Quantized:
        """A training pass."""


class NearestCode(Quantizer):
    """Nearest code by Euclidean distance, codebook initialized uniform in ±1/size (Emu3's quantizer).

    The training loss is van den Oord et al. 2017's: codebook + beta x commitment, beta 0.25.
    """

    def __init__(self, size: int, dim: int, beta: float = 0.25) -> None:
        super().__init__()
        self.size = size
        self.beta = beta
        self.embedding = nn.Embedding(size, dim)
        nn.init.uniform_(self.embedding.weight, -1 / size, 1 / size)
        self._frozen: tuple[int, int] | None = None
        self._cells: Cells | None = None

    def freeze(self) -> None:
        """Search faster on a CPU from now on (`neighbors.Cells`), until the codebook changes."""
        self._frozen, self._cells = self._state(), None

    def encode(self, vectors: Tensor) -> Tensor:
        """Index of the nearest row of the codebook; the lowest index wins a tie."""
        sites = vectors.movedim(1, -1)
        flat, book = sites.reshape(-1, sites.shape[-1]), self.embedding.weight
        is_frozen = self._frozen is not None and self._frozen == self._state()
        if not is_frozen or book.device.type != "cpu" or self.size < _LEAST_FOR_CELLS:
            return nearest(flat, book).reshape(sites.shape[:-1])
        if self._cells is None:
            self._cells = Cells(book.detach())
        return self._cells.nearest(flat.to(book.dtype)).reshape(sites.shape[:-1])

    def _state(self) -> tuple[int, int] | None:
        """Where the codebook lies, and how often it was written to; None where torch does not count that."""
        book = self.embedding.weight
        return None if book.is_inference() else (book.data_ptr(), book._version)

    def decode(self, codes: Tensor) -> Tensor:
        """Rows of the codebook."""
        rows: Tensor = self.embedding(codes)
        return rows.movedim(-1, 1)

    def forward(self, vectors: Tensor) -> Quantized:
        """Quantize with a straight-through gradient; the loss is that of codebook and commitment."""
        codes = self.encode(vectors)
        chosen = self.decode(codes)
        loss = (chosen - vectors.detach()).square().mean() + self.beta * (chosen.detach() - vectors).square().mean()
        return Quantized(vectors + (chosen - vectors).detach(), codes, loss)


@torch.no_grad()
def nearest(vectors: Tensor, book: Tensor) -> Tensor:
    """For each of [N, D] vectors, the index of the nearest row of [K, D]; ties go to the lowest."""
    with torch.autocast(vectors.device.type, enabled=False):
        # |v - c|^2 without |v|^2 is one product, [v, 1] by [-2c, |c|^2]; rows that pad a group are infinitely far.
        missing = -len(book) % _GROUP
        norms = F.pad(book.square().sum(1), (0, missing), value=math.inf)
        factors = torch.cat([F.pad(-2 * book, (0, 0, 0, missing)).T, norms.unsqueeze(0)]).contiguous()
        sites = F.pad(vectors.to(book.dtype), (0, 1), value=1.0)
        chunk = _CPU_CHUNK if vectors.device.type == "cpu" else _GPU_CHUNK
        return torch.cat([lowest(part @ factors) for part in torch.split(sites, chunk)])


def lowest(values: Tensor) -> Tensor:
    """The index of the lowest of [N, K] values: first the group, then within it, because argmin over all is slow."""
    if values.shape[1] % _GROUP:
        return values.argmin(1)
    groups = values.reshape(len(values), -1, _GROUP)
    group = groups.amin(2).argmin(1)
    return group * _GROUP + groups[torch.arange(len(values), device=values.device), group].argmin(1)


class FiniteScalar(Quantizer):
    """Finite scalar quantization: project to len(levels) numbers, bound each, round it to one of its levels.

    `levels` (each at least 2) multiply to `size`. A code is the mixed-radix number of the digits, first digit lowest.
    The projections to and from `dim` channels are 1x1 linear maps that belong to the quantizer.
    """

    def __init__(self, levels: tuple[int, ...], dim: int) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise ConfigError(f"levels {levels}: give one or more whole numbers of at least 2, e.g. [8, 8, 8, 8]")
        self.size = math.prod(levels)
        self.project_in = nn.Linear(dim, len(levels))
        self.project_out = nn.Linear(len(levels), dim)
        self.levels: Tensor
        self.basis: Tensor
        basis = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("basis", torch.tensor(basis), persistent=False)

    def digits(self, codes: Tensor) -> Tensor:
        """[...] codes to [..., len(levels)] digits, each in [0, level)."""
        return codes.unsqueeze(-1) // self.basis % self.levels

    def codes(self, digits: Tensor) -> Tensor:
        """[..., len(levels)] digits to [...] codes; the inverse of `digits`."""
        return (digits * self.basis).sum(-1)

    def encode(self, vectors: Tensor) -> Tensor:
        """Round each bounded coordinate to its nearest level."""
        return self.codes(self._position(self._project(vectors)).round().long())

    def decode(self, codes: Tensor) -> Tensor:
        """Levels spread evenly over [-1, 1], projected back to `dim` channels."""
        return self._vectors(self.digits(codes))

    def forward(self, vectors: Tensor) -> Quantized:
        """Quantize with a straight-through gradient through the rounding.

        The loss keeps the coordinates spread over their levels and different from each other: squared distance
        of their means from 0 and of their covariance from that of independent coordinates of variance pi^2 / 12, which
        atanh of a uniform number has. Without it they drift into the flat ends of tanh and all encode the same
        (brightness), so that most codes go unused.
        """
        projected = self._project(vectors)
        position = self._position(projected)
        digits = position.round()
        through = position + (digits - position).detach()
        sites = projected.flatten(0, -2)
        wanted = math.pi**2 / 12 * torch.eye(sites.shape[1], device=sites.device)
        covariance = torch.cov(sites.T).reshape(wanted.shape)
        loss = sites.mean(0).square().mean() + (covariance - wanted).square().sum(1).mean()
        return Quantized(self._vectors(through), self.codes(digits.long()), loss)

    def _project(self, vectors: Tensor) -> Tensor:
        # Always float32: rounding must not depend on the precision that the network runs in.
        with torch.autocast(vectors.device.type, enabled=False):
            projected: Tensor = self.project_in(vectors.float().movedim(1, -1))
            return projected

    def _position(self, projected: Tensor) -> Tensor:
        # A level owns the same share of the range: [-0.5, level - 0.5], shrunk a little so as never to round outside.
        return torch.tanh(projected) * (self.levels * (0.5 - 1e-3)) + (self.levels - 1) / 2

    def _vectors(self, digits: Tensor) -> Tensor:
        with torch.autocast(self.project_out.weight.device.type, enabled=False):
            spread = digits * (2 / (self.levels - 1)) - 1
            vectors: Tensor = self.project_out(spread)
            return vectors.movedim(-1, 1)
