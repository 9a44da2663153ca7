import pytest
import torch
from torch.nn import functional

from reelmill.train.loss import chunked_cross_entropy


@pytest.mark.parametrize("chunks", [1, 3, 8, 50])
def test_equals_the_plain_weighted_cross_entropy_in_value_and_gradients(chunks):
    torch.manual_seed(0)
    tokens, width, size = 37, 24, 611
    hidden = torch.randn(tokens, width, requires_grad=True)
    weight = torch.randn(size, width, requires_grad=True)
    targets = torch.randint(0, size, (tokens,))
    token_weights = torch.tensor([0.0, 0.5, 1.0])[torch.randint(0, 3, (tokens,))]

    plain_nll = functional.cross_entropy(hidden @ weight.t(), targets, reduction="none")
    plain = (plain_nll * token_weights).sum() / token_weights.sum()
    expected = torch.autograd.grad(plain, (hidden, weight))

    total, nll = chunked_cross_entropy(hidden, weight, targets, token_weights, chunks)
    loss = total / token_weights.sum()
    found = torch.autograd.grad(loss, (hidden, weight))

    assert torch.allclose(loss, plain, rtol=1e-6, atol=0)
    assert torch.allclose(nll, plain_nll, rtol=1e-5, atol=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 1e-6 * other.abs().max()


def test_tokens_of_weight_zero_give_no_gradient():
    hidden = torch.randn(4, 8, requires_grad=True)
    weight = torch.randn(11, 8, requires_grad=True)
    total, nll = chunked_cross_entropy(hidden, weight, torch.tensor([1, 2, 3, 4]), torch.tensor([1.0, 0.0, 1.0, 0.0]))
    total.backward()
    assert (hidden.grad[[1, 3]] == 0).all()
    assert (hidden.grad[[0, 2]] != 0).any()
    assert (nll > 0).all()


def test_without_gradients_it_only_measures():
    hidden, weight = torch.randn(5, 8), torch.randn(11, 8)
    targets, ones = torch.tensor([0, 1, 2, 3, 10]), torch.ones(5)
    with torch.no_grad():
        total, nll = chunked_cross_entropy(hidden, weight, targets, ones)
    assert total.item() == pytest.approx(functional.cross_entropy(hidden @ weight.t(), targets, reduction="sum").item())
    assert not nll.requires_grad


def test_bfloat16_sums_in_float32():
    torch.manual_seed(0)
    hidden = torch.randn(512, 16, requires_grad=True)
    weight = torch.randn(64, 16, requires_grad=True)
    targets, ones = torch.randint(0, 64, (512,)), torch.ones(512)
    plain = functional.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    expected = torch.autograd.grad(plain, weight)[0]
    half = weight.detach().bfloat16().requires_grad_()
    total, nll = chunked_cross_entropy(hidden.bfloat16(), half, targets, ones)
    total.backward()
    assert nll.dtype == torch.float32
    assert half.grad.dtype == torch.bfloat16
    assert (half.grad.float() - expected).norm() < 0.02 * expected.norm()
