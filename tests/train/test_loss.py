import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_near, rounding
from torch.nn import functional

from reelmill.errors import ReelmillError
from reelmill.train.loss import chunked_cross_entropy


def problem(tokens=37, width=24, size=611, seed=0, dtype=torch.float32, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, width, generator=generator, dtype=dtype).mul_(scale).requires_grad_()
    weight = torch.randn(size, width, generator=generator, dtype=dtype).requires_grad_()
    targets = torch.randint(0, size, (tokens,), generator=generator)
    token_weights = torch.tensor([0.0, 0.5, 1.0])[torch.randint(0, 3, (tokens,), generator=generator)]
    token_weights[0] = 1.0
    return hidden, weight, targets, token_weights


def plain_loss(hidden, weight, targets, token_weights, z_loss):
    """The same from whole logits, divided by the weight: (loss, nll, log_z)."""
    logits = hidden @ weight.t()
    nll, log_z = functional.cross_entropy(logits, targets, reduction="none"), logits.logsumexp(1)
    return ((nll + z_loss * log_z**2) * token_weights).sum() / token_weights.sum(), nll, log_z


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
@pytest.mark.parametrize("rows", [1, 5, 8, 50])
def test_equals_the_plain_weighted_cross_entropy_in_value_and_gradients(rows, z_loss, dtype):
    hidden, weight, targets, token_weights = problem(dtype=dtype)
    plain, plain_nll, plain_log_z = plain_loss(hidden, weight, targets, token_weights, z_loss)
    expected = torch.autograd.grad(plain, (hidden, weight))

    total, nll, log_z = chunked_cross_entropy(hidden, weight, targets, token_weights, z_loss=z_loss, rows=rows)
    loss = total / token_weights.sum()
    found = torch.autograd.grad(loss, (hidden, weight))

    # A logit is a sum over the width, a normalizer one over the vocabulary, a gradient one over vocabulary or tokens.
    logit, normalizer = weight.shape[1], weight.shape[1] + weight.shape[0]
    bound = rounding(dtype, normalizer, weight.shape[0], len(hidden))
    assert nll.dtype == dtype
    assert_near(nll, plain_nll, rounding(dtype, logit, normalizer))
    assert_near(log_z, plain_log_z, rounding(dtype, logit, normalizer))
    assert_near(loss, plain, bound)
    for one, other in zip(found, expected, strict=True):
        assert_near(one, other, bound)


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 20),
    width=st.integers(1, 9),
    size=st.integers(1, 40),
    rows=st.integers(1, 25),
    scale=st.sampled_from([1e-3, 1.0, 100.0]),
    z_loss=st.sampled_from([0.0, 1e-4, 0.5]),
    seed=st.integers(0, 2**31),
)
def test_gradients_are_those_of_the_plain_loss_for_any_shape_and_size_of_logits(
    tokens, width, size, rows, scale, z_loss, seed
):
    hidden, weight, targets, token_weights = problem(tokens, width, size, seed, torch.float64, scale)
    expected = torch.autograd.grad(plain_loss(hidden, weight, targets, token_weights, z_loss)[0], (hidden, weight))
    total, nll, log_z = chunked_cross_entropy(hidden, weight, targets, token_weights, z_loss=z_loss, rows=rows)
    found = torch.autograd.grad(total / token_weights.sum(), (hidden, weight))
    assert nll.isfinite().all() and log_z.isfinite().all()
    # Softmax is as uncertain, relative, as logits are absolute; gradients are sums of it times states or weights.
    logit = (hidden @ weight.t()).abs().max().item()
    factor = max(1.0, logit) * (1 + 2 * z_loss * log_z.abs().max().item())
    bound = rounding(torch.float64, width, 2 * size, tokens) * factor * max(hidden.abs().max(), weight.abs().max())
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= bound


def test_tokens_of_weight_zero_give_no_gradient():
    hidden, weight, targets, _ = problem(tokens=4)
    total, nll, _ = chunked_cross_entropy(hidden, weight, targets, torch.tensor([1.0, 0.0, 1.0, 0.0]), z_loss=0.1)
    total.backward()
    assert (hidden.grad[[1, 3]] == 0).all()
    assert (hidden.grad[[0, 2]] != 0).any()
    assert (nll > 0).all()


def test_without_gradients_it_only_measures():
    hidden, weight = torch.randn(5, 8), torch.randn(11, 8)
    targets, ones = torch.tensor([0, 1, 2, 3, 10]), torch.ones(5)
    with torch.no_grad():
        total, nll, _ = chunked_cross_entropy(hidden, weight, targets, ones)
    assert total.item() == pytest.approx(functional.cross_entropy(hidden @ weight.t(), targets, reduction="sum").item())
    assert not nll.requires_grad


def test_bfloat16_sums_in_float32():
    hidden, weight, targets, _ = problem(tokens=512, width=16, size=64)
    ones = torch.ones(512)
    plain = functional.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    expected = torch.autograd.grad(plain, weight)[0]
    half = weight.detach().bfloat16().requires_grad_()
    total, nll, _ = chunked_cross_entropy(hidden.bfloat16(), half, targets, ones, rows=32)
    total.backward()
    assert nll.dtype == torch.float32
    assert half.grad.dtype == torch.bfloat16
    assert (half.grad.float() - expected).norm() < 0.02 * expected.norm()


def test_the_gradients_are_handed_out_once():
    total, *_ = chunked_cross_entropy(*problem())
    total.backward(retain_graph=True)
    with pytest.raises(ReelmillError, match="once"):
        total.backward()


def test_whole_logits_never_exist_and_the_weight_s_gradient_exists_once():
    hidden, weight, targets, token_weights = problem(tokens=400, width=8, size=5000)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        total, *_ = chunked_cross_entropy(hidden, weight, targets, token_weights, rows=10)
        (total * 0.5).backward()
    assert weight.grad is not None
    sizes = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = largest = 0
    for size in sizes:
        held += size
        largest = max(largest, held)
    gradients, chunk = 4 * (weight.numel() + hidden.numel()), 4 * 10 * 5000
    assert gradients + chunk <= largest < gradients + 1.5 * chunk
