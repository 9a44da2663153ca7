"""Drafts become samples of the model's distribution, exactly: by arithmetic over all outcomes, not by chance."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.eval.generation.coupling import probabilities, transition
from reelmill.eval.generation.sampling import TokenSampling, sample
from reelmill.train.categorical import choose

SAMPLINGS = [
    TokenSampling(),
    TokenSampling(temperature=0.7),
    TokenSampling(top_k=3),
    TokenSampling(top_k=5, top_p=0.6, temperature=1.3),
    TokenSampling(top_p=0.8),
    TokenSampling(temperature=0),
]


def distributions(seed, rows=4, ids=7, zeros=True):
    rng = np.random.default_rng(seed)
    made = rng.dirichlet(np.full(ids, 0.5), rows)
    if zeros:
        made[:, rng.integers(0, ids, 2)] = 0
    return torch.from_numpy(made / made.sum(1, keepdims=True))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_over_all_drafts_the_tokens_are_distributed_as_the_model_says(seed):
    p, q = distributions(seed), distributions(seed + 1)
    total = torch.zeros_like(p)
    for draft in range(p.shape[1]):
        weight = q[:, draft]
        rows = weight > 0  # a draft of probability 0 is never made
        moved = transition(p[rows], q[rows], torch.full((int(rows.sum()),), draft))
        torch.testing.assert_close(moved.sum(1), torch.ones(len(moved), dtype=p.dtype), rtol=0, atol=1e-12)
        total[rows] += weight[rows, None] * moved
    torch.testing.assert_close(total, p, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_draft_stays_as_often_as_any_coupling_allows(seed):
    p, q = distributions(seed), distributions(seed + 1)
    stays = torch.zeros(len(p), dtype=p.dtype)
    for draft in range(p.shape[1]):
        rows = q[:, draft] > 0
        moved = transition(p[rows], q[rows], torch.full((int(rows.sum()),), draft))
        stays[rows] += q[rows, draft] * moved[:, draft]
    distance = (p - q).abs().sum(1) / 2
    torch.testing.assert_close(stays, 1 - distance, rtol=0, atol=1e-12)


def test_a_draft_of_the_models_own_distribution_always_stays():
    p = distributions(3, zeros=False)
    for draft in range(p.shape[1]):
        moved = transition(p, p.clone(), torch.full((len(p),), draft))
        torch.testing.assert_close(moved[:, draft], torch.ones(len(p), dtype=p.dtype), rtol=0, atol=1e-12)


def test_probabilities_are_what_sample_samples_from():
    """Over a fine grid of uniform numbers, each id is taken by its share of the grid."""
    logits = torch.randn(1, 9, generator=torch.Generator().manual_seed(0)).double() * 2
    grid = (torch.arange(40_000) + 0.5) / 40_000
    for params in SAMPLINGS:
        taken = sample(logits.expand(len(grid), -1), params, grid)
        share = torch.bincount(taken, minlength=9) / len(grid)
        assert (share - probabilities(logits, params)[0]).abs().max() < 2 / 4000


def test_choosing_follows_the_probabilities_and_never_takes_what_cannot_be():
    p = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]])
    grid = torch.cat(((torch.arange(1000) + 0.5) / 1000, torch.tensor([0.0, 1 - 2**-24])))
    taken = choose(p.expand(len(grid), -1), grid)
    assert torch.bincount(taken, minlength=5).tolist() == [0, 251, 0, 751, 0]
