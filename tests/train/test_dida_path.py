"""The path from noise to a code: its law, its rates (the master equation), and sampling that converges to the truth."""

import pytest
import torch
from torch.nn import functional

from reelmill.tokenize import vision
from reelmill.train.categorical import choose
from reelmill.train.objectives.dida.path import MetricPath, fitted_path, mean_distance, shifted

TIMES = (0.1, 0.26, 0.5, 0.74, 0.9)


def codebook(size, channels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(size, channels, dtype=torch.float64, generator=generator), dim=1)


def published(times):
    return 3 * (times / (1 - times)) ** 0.9


@pytest.fixture(scope="module")
def toy():
    return MetricPath(codebook(8, 3), published)


def at(path, time, count):
    return path.beta(torch.full((count,), time, dtype=path.vectors.dtype))


@pytest.mark.parametrize("make", [lambda: MetricPath(codebook(8, 3), published), lambda: fitted_path(codebook(8, 3))])
def test_the_law_goes_from_all_codes_alike_to_the_code_itself(make):
    path = make()
    codes = torch.arange(8)
    for time in (0.0, 0.3, 0.8):
        law = path.law(codes, at(path, time, 8))
        torch.testing.assert_close(law.sum(1), torch.ones_like(law[:, 0]))
    torch.testing.assert_close(path.law(codes, at(path, 0.0, 8)), torch.full_like(law, 1 / 8))
    assert path.law(codes, at(path, 1 - 1e-6, 8)).diagonal().min() > 0.999


def test_codes_that_move_at_the_rates_follow_the_law(toy):
    """The master equation: d p / d beta at y is the flow into y less the flow out of it."""
    every = torch.arange(8)
    for wanted in range(8):
        goal = torch.full((8,), wanted)
        for time in (0.05, 0.4, 0.9):
            beta = at(toy, time, 1)
            law = toy.law(torch.tensor([wanted]), beta)[0]
            rates = toy.rates(every, goal, beta.expand(8))
            small = 1e-5
            around = [toy.law(torch.tensor([wanted]), beta + sign * small)[0] for sign in (1, -1)]
            slope = (around[0] - around[1]) / (2 * small)
            flow = law @ rates - law * rates.sum(1)
            torch.testing.assert_close(flow, slope, rtol=0, atol=1e-8)


def generated(path, truth, steps, shift):
    """The law of one code that is generated in so many steps by a model that knows the truth, exactly."""
    size = len(truth)
    every, law_now = torch.arange(size), torch.full_like(truth, 1 / size)
    times = shifted(torch.arange(steps, dtype=truth.dtype) / steps, shift)
    for number in range(steps):
        joint = path.law(every, at(path, times[number].item(), size)) * truth[:, None]
        posterior = joint / joint.sum(0)  # [wanted, code]
        if number == steps - 1:
            return posterior @ law_now
        before, after = (at(path, times[n].item(), size) for n in (number, number + 1))
        law_now = sum(
            (law_now * posterior[wanted]) @ path.transition(every, torch.full((size,), wanted), before, after)
            for wanted in range(size)
        )
    raise AssertionError


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_sampling_with_the_true_posterior_converges_to_the_truth(toy, shift):
    truth = torch.tensor([0.3, 0.02, 0.2, 0.05, 0.15, 0.08, 0.1, 0.1], dtype=torch.float64)
    away = {
        steps: 0.5 * (generated(toy, truth, steps, shift) - truth).abs().sum().item() for steps in (4, 10, 25, 50, 200)
    }
    # Euler steps of the published scheduler, in t, have .095, .040, .020, .005 at 10, 25, 50, 200 steps for shift 1.
    assert away[10] < 0.01 and away[25] < 0.004 and away[200] < 0.001
    assert away[200] < away[50] < away[25] < away[10] < away[4]


def test_the_first_step_moves_codes(toy):
    every, zero = torch.arange(8), torch.zeros(8, dtype=torch.float64)
    moved = toy.transition(every, torch.full((8,), 3), zero, at(toy, 0.2, 8))
    torch.testing.assert_close(moved.sum(1), torch.ones_like(zero))
    assert (moved.diagonal()[every != 3] < 1).all() and moved.diagonal().mean() < 0.7
    assert moved[3, 3] == 1  # what is where it should be stays


@pytest.mark.parametrize(
    ("size", "channels"),
    [(512, 4), (2048, 256)],  # among the second all distances are nearly alike, and all happens at one beta
)
def test_on_the_fitted_path_the_distance_falls_on_a_line(size, channels):
    book = codebook(size, channels)
    path = fitted_path(book)
    some = torch.arange(0, size, size // 32)
    for time in TIMES:
        assert mean_distance(path, at(path, time, 1).item(), some) == pytest.approx(1 - time, abs=0.05)
    fixed = MetricPath(book, published)
    worst = max(abs(mean_distance(fixed, at(fixed, time, 1).item(), some) - (1 - time)) for time in TIMES)
    assert worst > 0.2  # the published constants are made for another codebook


def test_codes_that_differ_in_length_alone_are_told_apart():
    levels = torch.tensor([1.0, 2.0, 3.0])
    book = torch.cartesian_prod(levels, levels)
    path = fitted_path(book)
    distances = path.distances(torch.arange(9)) + torch.eye(9)
    assert distances.min() > 0.1
    assert path.law(torch.arange(9), at(path, 1 - 1e-6, 9)).diagonal().min() > 0.999


def test_a_tokenizer_gives_its_codebook():
    tokenizer = vision.load("reelmill-tok-xs")
    book = tokenizer.codebook()
    assert len(book) == tokenizer.codes
    assert len(torch.unique(book, dim=0)) == tokenizer.codes
    path = fitted_path(book)
    some = torch.arange(0, tokenizer.codes, 97)
    assert mean_distance(path, at(path, 0.5, 1).item(), some) == pytest.approx(0.5, abs=0.05)


def test_noise_is_drawn_by_its_numbers_in_chunks_as_at_once(monkeypatch):
    path = fitted_path(codebook(64, 4))
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(0, 64, (500,), generator=generator)
    times, uniforms = torch.rand(2, 500, generator=generator)
    noised = path.noised(codes, times, uniforms)
    monkeypatch.setattr("reelmill.train.objectives.dida.path.CHUNK", 64 * 7)
    torch.testing.assert_close(path.noised(codes, times, uniforms), noised)
    zero, late = torch.zeros(500), torch.full((500,), 1 - 1e-6)
    torch.testing.assert_close(path.noised(codes, late, uniforms), codes)
    counts = torch.bincount(path.noised(codes, zero, uniforms), minlength=64)
    assert counts.max() < 30  # of 500 among 64 that are alike


def test_codes_that_are_drawn_together_take_on_the_pairs_of_a_joint_law():
    """Pictures of 2 x 2 codes whose neighbors like to be equal, the exact posterior in place of a model."""
    size, count = 5, 2_000
    states = torch.cartesian_prod(*[torch.arange(size)] * 4)
    edges = ((0, 1), (2, 3), (0, 2), (1, 3))
    truth = torch.softmax(sum(1.2 * (states[:, a] == states[:, b]) for a, b in edges).double(), 0)
    path, every = fitted_path(codebook(size, 3)), torch.arange(size)

    def pairs(codes, weights):
        return torch.stack([torch.bincount(size * codes[:, a] + codes[:, b], weights, size**2) for a, b in edges])

    def drawn(steps):
        generator = torch.Generator().manual_seed(0)
        codes = torch.randint(0, size, (count, 4), generator=generator)
        for number in range(steps):
            time = number / steps
            likelihood = path.law(every, at(path, time, size)).double()  # [wanted, code]
            weights = truth * torch.stack([likelihood[:, codes[:, s]].t()[:, states[:, s]] for s in range(4)]).prod(0)
            posterior = torch.zeros(count, 4, size, dtype=torch.float64)
            for place in range(4):
                posterior[:, place].index_add_(1, states[:, place], weights)
            heading, moving = torch.rand(2, 4 * count, generator=generator)
            wanted = choose(posterior.view(-1, size), heading)
            if number == steps - 1:
                return wanted.view(count, 4)
            before, after = (torch.full((4 * count,), (number + more) / steps) for more in (0, 1))
            codes = path.step(codes.flatten(), wanted, before, after, moving).view(count, 4)
        raise AssertionError

    expected = pairs(states, truth)
    away = {
        steps: 0.5
        * (pairs(drawn(steps), torch.full((count,), 1 / count).double()) - expected).abs().sum(1).max().item()
        for steps in (1, 4, 16)
    }
    assert away[1] > away[4] > away[16]
    assert away[16] < 0.5 * away[1]
