"""The path from noise to a picture: what a code looks like at each time between 0 (pure noise) and 1 (the code).

At time t a code x1 has become a code x with probability softmax over x of -beta(t) d(x, x1), d the squared distance of
their vectors in the vision tokenizer's codebook (Shaul et al. 2024, arXiv 2412.03487; Gat et al. 2024, arXiv
2407.15595). beta rises from 0, where all codes are as likely, without bound. The published path has beta(t) = 3 (t / (1
- t))^0.9, made for one tokenizer; on a codebook of another size or dimension nearly everything then happens within a
few per cent of the time. Here beta is fitted to the codebook: the mean distance of x from x1 falls on a straight line.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from reelmill.train.categorical import choose

Beta = Callable[[Tensor], Tensor]

CHUNK = 1 << 24
"""Numbers [codes, codebook] that are worked on at a time: 64 MiB in float32."""
LATEST = 0.999
"""The latest time that is trained on."""
_DROP = 1 / 64
_LEAST_DISTANCE = 1e-3
_MOST_KNOTS = 500
_SAME_DIRECTION = 1e-6
_MOST_PARALLEL = 0.01


class MetricPath:
    """The path of a codebook with vectors [K, D] (float32, or float64) under a given `beta` of the time.

    Codes are int64 [n], times and uniform numbers float [n]. `beta` takes times in [0, 1).
    """

    def __init__(self, vectors: Tensor, beta: Beta) -> None:
        self.vectors, self.beta = vectors, beta
        self._norms = vectors.square().sum(1)

    @property
    def codes(self) -> int:
        """Size of the codebook."""
        return len(self.vectors)

    def to(self, device: torch.device) -> MetricPath:
        """The same on a device."""
        return MetricPath(self.vectors.to(device), self.beta)

    def distances(self, codes: Tensor) -> Tensor:
        """Squared distances [n, K] of each code from all."""
        found = self._norms[codes, None] + self._norms - 2 * (self.vectors[codes] @ self.vectors.t())
        return found.clamp_(min=0).scatter_(1, codes[:, None], 0.0)

    def law(self, codes: Tensor, beta: Tensor) -> Tensor:
        """What each code may have become, [n, K], at its `beta` [n]."""
        return torch.softmax(-beta[:, None] * self.distances(codes), dim=-1)

    def noised(self, codes: Tensor, times: Tensor, uniforms: Tensor) -> Tensor:
        """What each code has become at its time, drawn by its uniform number; int64 [n]."""
        beta = self.beta(times.to(self.vectors.dtype))
        return torch.cat([choose(self.law(codes[p], beta[p]), uniforms[p]) for p in self._parts(len(codes))])

    def rates(self, codes: Tensor, wanted: Tensor, beta: Tensor) -> Tensor:
        """Rates [n, K], for each unit of beta, at which `codes` on their way to `wanted` become other codes.

        A code moves only to what is nearer to the wanted one. Codes distributed by `law(wanted, beta)` that move at
        these rates stay so distributed as beta rises.
        """
        distances = self.distances(wanted)
        nearer = (distances.gather(1, codes[:, None]) - distances).clamp_(min=0)
        return torch.softmax(-beta[:, None] * distances, dim=-1).mul_(nearer)

    def transition(self, codes: Tensor, wanted: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Distribution [n, K] of what `codes` on their way to `wanted` have become when beta has risen from `before`
        to `after` [n], the rates being those in the middle.

        beta itself is the clock. Its derivative by the time is 0 or infinite at time 0, where it would forbid the
        first step to move anything.
        """
        rates = self.rates(codes, wanted, (before + after) / 2)
        total = rates.sum(dim=1, keepdim=True)
        stays = torch.exp(-(after - before)[:, None] * total)
        moved = torch.where(total > 0, rates * ((1 - stays) / total), 0)
        return moved.scatter_(1, codes[:, None], stays)

    def step(self, codes: Tensor, wanted: Tensor, before: Tensor, after: Tensor, uniforms: Tensor) -> Tensor:
        """`codes` at the times `before`, moved toward `wanted` up to the times `after`; int64 [n]."""
        start, stop = (self.beta(times.to(self.vectors.dtype)) for times in (before, after))
        return torch.cat(
            [
                choose(self.transition(codes[p], wanted[p], start[p], stop[p]), uniforms[p])
                for p in self._parts(len(codes))
            ]
        )

    def _parts(self, count: int) -> list[slice]:
        size = max(1, CHUNK // self.codes)
        return [slice(start, start + size) for start in range(0, max(1, count), size)]


def fitted_path(codebook: Tensor) -> MetricPath:
    """The path of a codebook [K, D] on which the mean distance from the code falls on a straight line.

    Vectors are brought to length 1, as published, unless many of them then coincide (codes that differ in length
    alone, as in finite scalar quantization, could never be told apart); their mean squared distance is brought to 1.
    """
    vectors = functional.normalize(codebook.float(), dim=1)
    if _share_with_twin(vectors) > _MOST_PARALLEL:
        vectors = codebook.float() - codebook.float().mean(0)
    mean_distance = 2 * (vectors.square().sum(1).mean() - vectors.mean(0).square().sum())
    vectors = vectors / mean_distance.sqrt()
    return MetricPath(vectors, _linear_beta(vectors))


def mean_distance(path: MetricPath, beta: float, codes: Tensor) -> float:
    """Mean distance at `beta` from these codes, as a share of that of pure noise."""
    distances = path.distances(codes)
    law = torch.softmax(-beta * distances, dim=-1)
    return float((law * distances).sum(1).mean() / distances.mean())


def shifted(times: Tensor, shift: float) -> Tensor:
    """Times moved toward noise: t / (t + shift (1 - t)). 1 leaves them; larger pictures need more (URSA)."""
    return times / (times + shift * (1 - times))


def _linear_beta(vectors: Tensor) -> Beta:
    """The beta under which the mean distance is 1 - t, between knots that are at most 1/32 of it apart."""
    path = MetricPath(vectors, lambda times: times)
    some = torch.linspace(0, path.codes - 1, min(256, max(16, (1 << 21) // path.codes), path.codes)).long()
    betas, left, step = [0.0], [1.0], 0.1
    while left[-1] > _LEAST_DISTANCE and len(betas) < _MOST_KNOTS:
        now = mean_distance(path, betas[-1] + step, some)
        fell = left[-1] - now
        if fell > 2 * _DROP:
            step /= 2
            continue
        betas.append(betas[-1] + step)
        left.append(now)
        if fell < _DROP:
            step *= 2
    times, knots = 1 - torch.tensor(left, dtype=torch.float64), torch.tensor(betas, dtype=torch.float64)

    def beta(at: Tensor) -> Tensor:
        wide = at.double()
        of_time, of_beta = times.to(at.device), knots.to(at.device)
        place = torch.searchsorted(of_time, wide, right=True).clamp(1, len(of_time) - 1)
        low, high = of_time[place - 1], of_time[place]
        share = ((wide - low) / (high - low)).clamp(max=1)
        between = of_beta[place - 1] + share * (of_beta[place] - of_beta[place - 1])
        beyond = of_beta[-1] * (1 - of_time[-1]) / (1 - wide).clamp(min=1e-9)
        return torch.where(wide > of_time[-1], beyond, between).to(at.dtype)

    return beta


def _share_with_twin(vectors: Tensor) -> float:
    """Share of the codes (of up to 1,024 of them) that have another code at nearly the same place."""
    path = MetricPath(vectors, lambda times: times)
    some = torch.linspace(0, path.codes - 1, min(1024, path.codes)).long()
    closest = []
    for part in torch.split(some, max(1, CHUNK // path.codes)):
        distances = path.distances(part).scatter_(1, part[:, None], float("inf"))
        closest.append(distances.amin(1))
    return float((torch.cat(closest) < _SAME_DIRECTION).float().mean())
