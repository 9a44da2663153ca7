"""Index backpropagation quantization (IBQ; Shi et al. 2024, arXiv 2412.02692): every code learns at every step.

The choice of a code is a classification: a vector's products with all codes are logits, the code is the largest one.
In the backward pass the one-hot choice counts as the softmax of the logits (straight-through), so the gradient reaches
the whole codebook, not the chosen rows alone. Matrices with a column per code (products, softmax, their gradients) are
formed for a chunk of vectors at a time and recomputed in the backward pass: memory does not grow with batch x codebook.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelmill.tokenize.vision.quantize import Quantized, Quantizer, lowest

CHUNK_BYTES = {"cpu": 1 << 26, "cuda": 1 << 30}
"""Bytes of a float32 matrix [vectors, codes] that is formed at once; a few of them exist together."""
TEMPERATURE = 0.01
"""Temperature of the softmax whose entropy is measured."""
_EPS = 1e-5


class IndexBackprop(Quantizer):
    """The code with the largest product with a vector, of a learned codebook.

    The loss is the published one: (z_q - z)^2 with the gradient through all codes, (sg(z_q) - z)^2 and
    beta (z_q - sg(z))^2, each the mean. `entropy` is the mean entropy of a vector's choice minus the entropy of the
    mean choice: small when single choices are certain and all codes are used. It takes a softmax more, and is 0 without
    `with_entropy`.
    """

    def __init__(self, size: int, dim: int, beta: float = 0.25) -> None:
        super().__init__()
        self.size = size
        self.beta = beta
        self.with_entropy = True
        self.embedding = nn.Embedding(size, dim)

    def encode(self, vectors: Tensor) -> Tensor:
        """Index of the row of the codebook with the largest product; the lowest index wins a tie."""
        sites = vectors.movedim(1, -1)
        return largest(sites.reshape(-1, sites.shape[-1]), self.embedding.weight).reshape(sites.shape[:-1])

    def decode(self, codes: Tensor) -> Tensor:
        """Rows of the codebook."""
        rows: Tensor = self.embedding(codes)
        return rows.movedim(-1, 1)

    def forward(self, vectors: Tensor) -> Quantized:
        """Quantize with the gradient of index backpropagation."""
        sites = vectors.movedim(1, -1)
        with torch.autocast(vectors.device.type, enabled=False):
            flat = sites.reshape(-1, sites.shape[-1]).float()
            book = self.embedding.weight.float()
            chosen, codes, entropy = _IndexBackprop.apply(flat, book, self.with_entropy)  # type: ignore[no-untyped-call]
            hard: Tensor = self.embedding(codes)
            loss = (
                F.mse_loss(chosen, flat) + F.mse_loss(flat, hard.detach()) + self.beta * F.mse_loss(hard, flat.detach())
            )
        return Quantized(chosen.reshape(sites.shape).movedim(-1, 1), codes.reshape(sites.shape[:-1]), loss, entropy)


@torch.no_grad()
def largest(vectors: Tensor, book: Tensor) -> Tensor:
    """For each of [N, D] vectors, the index of the row of [K, D] with the largest product; ties go to the lowest."""
    with torch.autocast(vectors.device.type, enabled=False):
        vectors, book = vectors.float(), book.float()
        return torch.cat([lowest(-(part @ book.T)) for part in torch.split(vectors, chunk_size(vectors, book))])


def chunk_size(vectors: Tensor, book: Tensor) -> int:
    """Vectors that are compared with the whole codebook at once."""
    return max(1, CHUNK_BYTES.get(vectors.device.type, CHUNK_BYTES["cuda"]) // (4 * len(book)))


class _IndexBackprop(torch.autograd.Function):
    """[N, D] vectors and [K, D] codes to the chosen codes [N, D], their indices [N] and the entropy, a scalar."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, book: Tensor, with_entropy: bool) -> tuple[Tensor, Tensor, Tensor]:
        codes = torch.empty(len(vectors), dtype=torch.int64, device=vectors.device)
        mean_choice = torch.zeros(len(book), device=book.device)
        entropy = torch.zeros((), device=book.device)
        for part in _parts(vectors, book):
            logits = vectors[part] @ book.T
            codes[part] = lowest(-logits)
            if with_entropy:
                log_choice = F.log_softmax(logits.div_(TEMPERATURE), dim=1)
                choice = log_choice.exp()
                entropy -= (choice * log_choice).sum() / len(vectors)
                mean_choice += choice.sum(0) / len(vectors)
        entropy += (mean_choice * (mean_choice + _EPS).log()).sum()
        ctx.save_for_backward(vectors, book, codes, mean_choice)
        ctx.with_entropy = with_entropy
        ctx.mark_non_differentiable(codes)
        return book[codes], codes, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        vectors, book, codes, mean_choice = ctx.saved_tensors
        of_chosen, _, of_entropy = gradients
        to_vectors, to_book = torch.empty_like(vectors), torch.zeros_like(book)
        to_book.index_add_(0, codes, of_chosen)
        spread = (mean_choice + _EPS).log() + mean_choice / (mean_choice + _EPS)
        for part in _parts(vectors, book):
            logits = vectors[part] @ book.T
            # Through the softmax that stands for the one-hot choice ...
            to_logits = _through_softmax(logits.softmax(1), of_chosen[part] @ book.T)
            if ctx.with_entropy:  # ... and through the entropies, of each choice and of the mean one.
                log_choice = F.log_softmax(logits.div_(TEMPERATURE), dim=1)
                through = _through_softmax(log_choice.exp(), spread - log_choice)
                to_logits += through.mul_(of_entropy / (TEMPERATURE * len(vectors)))
            to_vectors[part] = to_logits @ book
            to_book.addmm_(to_logits.T, vectors[part])
        return to_vectors, to_book, None


def _parts(vectors: Tensor, book: Tensor) -> Iterator[slice]:
    size = chunk_size(vectors, book)
    return (slice(start, start + size) for start in range(0, len(vectors), size))


def _through_softmax(probabilities: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of the logits from that of their softmax."""
    return probabilities * (gradient - (probabilities * gradient).sum(1, keepdim=True))
