"""Where training begins when the model has a shortcut: principal components of patches, k-means of their coordinates.

Together they are the best linear codec of single patches; the network is trained to improve on it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from reelmill.tokenize.vision.layers import Shortcut
from reelmill.tokenize.vision.quantize import nearest
from reelmill.train.parallel import Ranks
from reelmill.train.vision.data import Crops, as_signal
from reelmill.train.vision.revival import set_codebook

SIZE = 128
"""Pixels a side of the crops that patches are taken from."""
ITERATIONS = 4


@torch.no_grad()
def fit(models: list[nn.Module], crops: Crops, patches: int, codes: int, seed: int, ranks: Ranks) -> None:
    """Fit every shortcut and the codebook of the models (all alike) to about `patches` patches of pictures.

    Computed by the first rank, the same on all.
    """
    shortcuts = [module for model in models for module in model.modules() if isinstance(module, Shortcut)]
    size, patch = len(shortcuts[0].basis), shortcuts[0].patch
    basis = torch.zeros_like(shortcuts[0].basis)
    offset = torch.zeros_like(shortcuts[0].offset)
    book = torch.zeros(codes, size, device=ranks.device)
    if ranks.is_first:
        found = _patches(crops, patches, patch, seed).to(ranks.device)
        offset.copy_(found.mean(0))
        basis.copy_(_principal(found - offset, size))
        book.copy_(kmeans((found - offset) @ basis.T / 2, codes, seed))
    for tensor in (basis, offset, book):
        dist.broadcast(tensor, src=0)
    for shortcut in shortcuts:
        shortcut.basis.copy_(basis)
        shortcut.offset.copy_(offset)
    for model in models:
        set_codebook(model, book)


def kmeans(vectors: Tensor, size: int, seed: int, iterations: int = ITERATIONS) -> Tensor:
    """[size, D] centers of [N, D] vectors, begun at random ones of them (Lloyd's algorithm); an empty one stays."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(vectors), (size,), generator=generator)
    if len(vectors) >= size:
        chosen = torch.randperm(len(vectors), generator=generator)[:size]
    centres = vectors[chosen.to(vectors.device)].clone()
    for _ in range(iterations):
        codes = nearest(vectors, centres)
        counts = torch.bincount(codes, minlength=size).unsqueeze(1)
        sums = torch.zeros_like(centres).index_add_(0, codes, vectors)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres


def _patches(crops: Crops, count: int, patch: int, seed: int) -> Tensor:
    """At least `count` patches, [N, 3 patch^2] in [-1, 1]."""
    rng = np.random.default_rng(seed)
    each = (SIZE // patch) ** 2
    pictures = [crops.picture(rng, SIZE) for _ in range(-(-count // each))]
    found = F.pixel_unshuffle(as_signal(np.stack(pictures)), patch)
    return found.movedim(1, -1).flatten(0, 2)


def _principal(vectors: Tensor, size: int) -> Tensor:
    """The `size` directions, rows of length 1, in which vectors of mean 0 vary most."""
    directions: Tensor = torch.linalg.eigh(vectors.T @ vectors)[1]
    return directions.flip(1)[:, :size].T.contiguous()
