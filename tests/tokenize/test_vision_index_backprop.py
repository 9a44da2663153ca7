"""Index backpropagation in chunks beside its plain formula, where the one-hot choice of every vector exists."""

import pytest
import torch
from rounding import assert_near, rounding
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from reelmill.tokenize.vision import index_backprop
from reelmill.tokenize.vision.index_backprop import CHUNK_BYTES, TEMPERATURE, IndexBackprop


def plain(vectors, book, beta=0.25):
    """As it is published: [N, D] vectors and [K, D] codes to quantized vectors, codes, loss and entropy."""
    logits = vectors @ book.T
    soft = logits.softmax(1)
    hard = F.one_hot(soft.argmax(1), len(book)).to(vectors.dtype)
    through = hard - soft.detach() + soft
    quantized, chosen = through @ book, hard @ book
    loss = (
        (quantized - vectors).square().mean()
        + (chosen.detach() - vectors).square().mean()
        + beta * (chosen - vectors.detach()).square().mean()
    )
    choice = (logits / TEMPERATURE).softmax(1)
    single = -(choice * (logits / TEMPERATURE).log_softmax(1)).sum(1).mean()
    mean = choice.mean(0)
    return quantized, soft.argmax(1), loss, single + (mean * (mean + 1e-5).log()).sum()


def made(codes, dim, seed=0, spread=0.3):
    torch.manual_seed(seed)
    quantizer = IndexBackprop(codes, dim)
    with torch.no_grad():
        quantizer.embedding.weight.mul_(spread)
    return quantizer


@pytest.mark.parametrize("chunk", [1, 7, 24, 1000], ids=lambda n: f"{n} vectors a chunk")
def test_values_and_gradients_are_the_plain_formulas(chunk, monkeypatch):
    quantizer, sites = made(96, 6), (2, 3, 4)
    monkeypatch.setitem(CHUNK_BYTES, "cpu", 4 * 96 * chunk)
    vectors = (torch.randn(2, 6, 1, 3, 4) * 0.4).requires_grad_()
    found = quantizer(vectors)
    wish = torch.randn_like(found.vectors)
    ((found.vectors * wish).sum() + 0.7 * found.loss + 0.05 * found.entropy).backward()

    flat = vectors.detach().movedim(1, -1).reshape(-1, 6).requires_grad_()
    book = quantizer.embedding.weight.detach().clone().requires_grad_()
    quantized, codes, loss, entropy = plain(flat, book)
    ((quantized * wish.movedim(1, -1).reshape(-1, 6)).sum() + 0.7 * loss + 0.05 * entropy).backward()

    assert torch.equal(found.codes.flatten(), codes)
    assert found.codes.shape == (sites[0], 1, *sites[1:])
    assert torch.equal(quantizer.encode(vectors.detach()), found.codes)
    assert torch.equal(found.vectors, quantizer.decode(found.codes))
    # Logits over 6 dimensions, softmax over 96 codes, sums over 24 vectors; backward the same again. The temperature
    # divides logits, and so multiplies what they are off by.
    bound = rounding(torch.float32, 2 * (6 + 2 * 96 + 24)) / TEMPERATURE
    assert_near(found.loss, loss, bound)
    assert_near(found.entropy, entropy, bound)
    assert_near(vectors.grad.movedim(1, -1).reshape(-1, 6), flat.grad, bound)
    assert_near(quantizer.embedding.weight.grad, book.grad, bound)


def test_without_entropy_the_rest_is_the_same():
    quantizer = made(64, 5)
    vectors = torch.randn(1, 5, 1, 4, 4)
    gradients = []
    for with_entropy in (True, False):
        quantizer.with_entropy = with_entropy
        inputs = vectors.clone().requires_grad_()
        quantizer.zero_grad()
        found = quantizer(inputs)
        (found.vectors.square().sum() + found.loss).backward()
        gradients.append((inputs.grad, quantizer.embedding.weight.grad.clone()))
    for one, other in zip(*gradients, strict=True):
        assert_near(one, other, rounding(torch.float32, 2 * (5 + 2 * 64 + 16)))
    assert found.entropy == 0


def test_every_code_learns_where_a_nearest_code_would_alone():
    quantizer = made(128, 4)
    found = quantizer(torch.randn(1, 4, 1, 2, 2))
    found.vectors.square().sum().backward()
    assert len(found.codes.unique()) <= 4
    assert (quantizer.embedding.weight.grad.abs().sum(1) > 0).all()


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operation made."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return made


def test_131072_codes_never_meet_the_whole_batch():
    codes, count = 131_072, 256
    quantizer = made(codes, 2)
    vectors = torch.randn(1, 2, 1, 16, count // 16, requires_grad=True)
    with Largest() as largest:
        found = quantizer(vectors)
        (found.vectors.sum() + found.loss + found.entropy).backward()
    assert largest.bytes <= CHUNK_BYTES["cpu"] < 4 * codes * count
    assert vectors.grad.isfinite().all()
    assert quantizer.embedding.weight.grad.isfinite().all()


def test_a_chunk_is_at_least_one_vector():
    assert index_backprop.chunk_size(torch.zeros(1, 2), torch.zeros(1 << 25, 2)) == 1


def test_it_learns_to_tell_vectors_apart():
    """Clusters of vectors, a codebook that begins elsewhere: the error falls and each cluster gets a code."""
    torch.manual_seed(0)
    centres = torch.randn(12, 6) * 2
    quantizer = made(64, 6, spread=0.5)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.03)
    errors = []
    for _ in range(150):
        batch = (centres[torch.randint(12, (96,))] + 0.1 * torch.randn(96, 6)).T.reshape(1, 6, 1, 8, 12)
        found = quantizer(batch)
        errors.append(float(F.mse_loss(found.vectors.detach(), batch)))
        (F.mse_loss(found.vectors, batch) + found.loss + 0.05 * found.entropy).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert errors[-1] < 0.25 * errors[0]
    codes = quantizer.encode(centres.T.reshape(1, 6, 1, 3, 4))
    assert len(codes.unique()) >= 9
