"""A world of pictures whose law is known: 2 rows of 8 codes in which neighbors like to be one apart.

A column is one of 64, and the columns are a chain, so that sums over all pictures are products of small matrices.
"""

import torch
from torch import Tensor

from reelmill.train.categorical import choose
from reelmill.train.objectives.dida.path import MetricPath

CODES = 8
_TOP, _BOTTOM = torch.arange(CODES**2) // CODES, torch.arange(CODES**2) % CODES


def _weight(one: Tensor, next_one: Tensor) -> Tensor:
    return torch.exp(2.5 * ((next_one - one) % CODES == 1).double())


_COLUMN = _weight(_TOP, _BOTTOM)
_STEP = _weight(_TOP[:, None], _TOP) * _weight(_BOTTOM[:, None], _BOTTOM)


class ColumnWorld:
    """Pictures int64 [n, 2, width]; the weight of one is e^2.5 for each code that is one more than its left or upper
    neighbor (0 follows 7)."""

    def __init__(self, width: int) -> None:
        self.width = width

    def draw(self, count: int, seed: int) -> Tensor:
        """Pictures of the law."""
        random = torch.Generator().manual_seed(seed)
        law = self._backward(_COLUMN.expand(1, self.width, -1))
        columns = [choose((_COLUMN * law[0]).expand(count, -1), torch.rand(count, generator=random))]
        for later in law[1:]:
            columns.append(choose(_STEP[columns[-1]] * _COLUMN * later, torch.rand(count, generator=random)))
        found = torch.stack(columns, 1)
        return torch.stack((found // CODES, found % CODES), 1)

    def away(self, pictures: Tensor) -> float:
        """How far pairs of neighbors are from the law, as total variation: the larger of those side by side, whatever
        their place, and of those above each other."""
        evidence = _COLUMN.expand(1, self.width, -1)
        before, after = self._forward(evidence)[0], self._backward(evidence)
        beside, above = torch.zeros(2, CODES, CODES, dtype=torch.float64)
        for place in range(self.width):
            above += _normal(before[place] * after[place])[0].view(CODES, CODES)
        for place in range(self.width - 1):
            both = before[place][0, :, None] * _STEP * (_COLUMN * after[place + 1])
            both = _normal(both.flatten()).view(CODES, CODES, CODES, CODES)
            beside += both.sum((1, 3)) + both.sum((0, 2))
        pairs = (pictures[:, :, :-1], pictures[:, :, 1:], beside), (pictures[:, 0], pictures[:, 1], above)
        found = []
        for one, other, law in pairs:
            counts = torch.bincount((CODES * one + other).flatten(), minlength=CODES**2).double()
            found.append(float((_normal(counts) - _normal(law.flatten())).abs().sum() / 2))
        return max(found)

    def posterior(self, path: MetricPath, noisy: Tensor, times: Tensor) -> Tensor:
        """What each code of noisy pictures was, [n, 2, width, CODES], if the time is as likely each of `times`."""
        columns, logs = [], []
        for beta in path.beta(times):
            law = path.law(torch.arange(CODES), beta.expand(CODES)).double()  # [code, what it became]
            seen = [law[:, noisy[:, row]].permute(1, 2, 0) for row in (0, 1)]
            evidence = seen[0][..., _TOP] * seen[1][..., _BOTTOM] * _COLUMN
            before, log = self._forward(evidence)
            after = self._backward(evidence)
            both = torch.stack([_normal(a * b) for a, b in zip(before, after, strict=True)], 1)
            columns.append(both)
            logs.append(log)
        shares = torch.softmax(torch.stack(logs), 0)
        mixed = (torch.stack(columns) * shares[:, :, None, None]).sum(0).view(len(noisy), self.width, CODES, CODES)
        return torch.stack((mixed.sum(3), mixed.sum(2)), 1)

    def _forward(self, evidence: Tensor) -> tuple[list[Tensor], Tensor]:
        """Of each column its law given what is seen up to it, [n, 64]; and the log of how likely all of it is, [n]."""
        found: list[Tensor] = []
        log = torch.zeros(len(evidence), dtype=torch.float64)
        for place in range(self.width):
            now = evidence[:, place] * (found[-1] @ _STEP if found else 1)
            log += now.sum(1).log()
            found.append(_normal(now))
        return found, log

    def _backward(self, evidence: Tensor) -> list[Tensor]:
        """Of each column how likely, up to a factor, what is seen after it is, [n, 64]."""
        found = [torch.ones(len(evidence), CODES**2, dtype=torch.float64)]
        for place in range(self.width - 1, 0, -1):
            found.append(_normal((evidence[:, place] * found[-1]) @ _STEP.t()))
        return found[::-1]


def _normal(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)
