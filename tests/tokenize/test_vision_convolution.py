"""Convolutions for inference are the convolution up to rounding, at any size, alone and in a batch."""

import math

import pytest
import torch
from rounding import assert_near, rounding
from torch.nn import functional as F

from reelmill.tokenize.vision.convolution import Conv3x3, freeze


@pytest.mark.parametrize(
    ("inputs", "outputs", "height", "width"),
    [
        (256, 320, 32, 32),
        (320, 256, 34, 66),
        (256, 256, 8, 260),
        (256, 256, 300, 4),
        (256, 256, 33, 64),
        (1024, 1032, 5, 8),
    ],
)
def test_it_is_the_convolution_up_to_rounding(inputs, outputs, height, width):
    torch.manual_seed(0)
    layer = Conv3x3(inputs, outputs).requires_grad_(False)
    frames = torch.randn(2, inputs, height, width)
    exact = F.conv2d(frames.double(), layer.weight.double(), layer.bias.double(), padding=1)
    freeze(layer)
    fast = layer(frames)
    assert fast.shape == exact.shape
    # Winograd's transforms add up to 9 numbers before and 4 after, and magnify what they add (Lavin and Gray, 2016).
    assert_near(fast, exact, rounding(torch.float32, 9 * inputs + 9 + 4))
    # Of roundings one after another the deviations add up as the terms' own do.
    assert (fast - exact).std() < math.sqrt(9 * inputs) * torch.finfo(torch.float32).eps / 2 * exact.std()
    assert torch.equal(fast[1:], layer(frames[1:]))


def test_only_wide_frozen_layers_and_large_frames_take_winograds():
    frames = torch.randn(1, 256, 32, 32)
    layer, narrow = Conv3x3(256, 256).requires_grad_(False), Conv3x3(64, 64).requires_grad_(False)
    direct, small = layer(frames), layer(frames[..., :16])
    expected = F.conv2d(frames[:, :64], narrow.weight, narrow.bias, padding=1)
    assert_near(narrow(frames[:, :64]), expected, rounding(torch.float32, 9 * 64))
    names = set(layer.state_dict())
    freeze(layer)
    assert not torch.equal(layer(frames), direct)  # another order of summing
    assert_near(layer(frames[..., :16]), small, rounding(torch.float32, 9 * 256))
    assert set(layer.state_dict()) == names == {"weight", "bias"}
    layer.weight[0] = 0
    layer.frozen = False
    assert torch.equal(layer(frames)[0, 0], layer.bias[0].expand(32, 32))
