"""Both quantizers: every code round-trips, gradients reach the encoder, wrong settings raise."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import rounding

from reelmill.errors import ConfigError
from reelmill.tokenize.vision.quantize import FiniteScalar, NearestCode
from reelmill.tokenize.vision.quantizers import make_quantizer

LEVELS = st.lists(st.integers(2, 9), min_size=1, max_size=4).map(tuple).filter(lambda levels: math.prod(levels) <= 4096)


@settings(max_examples=30, deadline=None)
@given(levels=LEVELS)
def test_fsq_digits_enumerate_every_code_once(levels):
    quantizer = FiniteScalar(levels, dim=3)
    codes = torch.arange(quantizer.size)
    digits = quantizer.digits(codes)
    assert len({tuple(row) for row in digits.tolist()}) == math.prod(levels)
    assert (digits >= 0).all() and (digits < torch.tensor(levels)).all()
    assert torch.equal(quantizer.codes(digits), codes)


@settings(max_examples=30, deadline=None)
@given(levels=LEVELS)
def test_fsq_reaches_every_code_through_encode(levels):
    """Vectors placed at the centre of each level encode to that level's code: none is out of reach."""
    quantizer = FiniteScalar(levels, dim=len(levels))
    with torch.no_grad():
        quantizer.project_in.weight.copy_(torch.eye(len(levels)))
        quantizer.project_in.bias.zero_()
    codes = torch.arange(quantizer.size)
    count = torch.tensor(levels)
    centres = torch.atanh((quantizer.digits(codes) - (count - 1) / 2) / (count * (0.5 - 1e-3)))
    assert torch.equal(quantizer.encode(centres.T[None, :, :, None, None]).flatten(), codes)


def test_fsq_never_leaves_the_codebook_at_extreme_inputs():
    quantizer = FiniteScalar((8, 5, 3), dim=3)
    vectors = torch.tensor([-1e6, 0.0, 1e6]).reshape(1, 1, 3, 1, 1).expand(1, 3, 3, 1, 1)
    codes = quantizer.encode(vectors)
    assert codes.min() >= 0 and codes.max() < 120


def test_training_output_is_what_decode_gives_and_carries_a_gradient():
    torch.manual_seed(0)
    for quantizer in (FiniteScalar((8, 8), dim=6), NearestCode(64, dim=6)):
        vectors = torch.randn(2, 6, 1, 3, 4, requires_grad=True)
        quantized, codes, loss, entropy = quantizer(vectors)
        assert entropy is None
        # The gradient goes straight through: what comes out is the vector and its distance to the code, added.
        apart = (quantized - quantizer.decode(codes)).abs().max()
        assert apart <= rounding(torch.float32, 2 + 6) * vectors.abs().max()
        assert torch.equal(codes, quantizer.encode(vectors))
        (quantized.square().sum() + loss).backward()
        assert vectors.grad is not None and vectors.grad.abs().sum() > 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_nearest_code_is_the_brute_force_nearest(seed):
    torch.manual_seed(seed)
    quantizer = NearestCode(50, dim=4)
    with torch.no_grad():
        quantizer.embedding.weight.normal_()
    vectors = torch.randn(1, 4, 2, 3, 3)
    flat = vectors.movedim(1, -1).reshape(-1, 4)
    expected = torch.cdist(flat.double(), quantizer.embedding.weight.double()).argmin(1)
    assert torch.equal(quantizer.encode(vectors).flatten(), expected)
    assert torch.equal(quantizer.encode(quantizer.decode(expected.reshape(1, 2, 3, 3))).flatten(), expected)


def test_wrong_settings_raise():
    with pytest.raises(ConfigError, match="multiply to 64"):
        make_quantizer("fsq", 4096, (8, 8), 4)
    with pytest.raises(ConfigError, match="allowed: nearest, fsq"):
        make_quantizer("residual", 4096, (), 4)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 2"):
        FiniteScalar((8, 1), dim=4)
