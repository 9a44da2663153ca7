"""How far two results may lie apart that differ only in the order of their arithmetic, on any processor.

A result that takes n roundings is off by at most n * u of the magnitudes that were added, u being half the machine
epsilon (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2). Roundings have no common sign: with
a probability of 1 - 2 exp(-CERTAINTY ** 2 / 2) they stay under CERTAINTY * sqrt(n) * u (Higham and Mary, SIAM Journal
on Scientific Computing 41(5), 2019, theorem 2.4). Two results are apart by at most twice that. What is chained adds up:
a sum of n numbers has n roundings, a matrix product those of its inner dimension, a softmax those of its width.
"""

import math

import numpy as np
import torch

CERTAINTY = 8
"""2 exp(-32) is 3e-14."""


def rounding(dtype, *lengths):
    """The bound, relative to the magnitudes: CERTAINTY * sqrt(n) * machine epsilon, n the sum of `lengths`."""
    return CERTAINTY * math.sqrt(sum(lengths)) * torch.finfo(dtype).eps


def network_sums(*networks):
    """Roundings of an output of some networks: of every convolution, linear layer and norm in them, once."""
    weights = [getattr(part, "weight", None) for network in networks for part in network.modules()]
    return sum(weight[0].numel() if weight.ndim > 1 else weight.numel() for weight in weights if weight is not None)


def decoder_sums(config, vocab_size, context):
    """Roundings of a token's loss in a decoder (a ModelConfig): of each layer's norms, products and softmax, and of the
    head's."""
    attention = 2 * config.hidden + config.head_size + 2 * context + config.heads * config.head_size
    mlp = 2 * config.hidden + config.mlp
    return config.layers * (attention + mlp) + 2 * config.hidden + vocab_size


def training_bound(config, vocab_size, steps=None):
    """The relative bound of the losses of a training (a TrainConfig) up to so many steps, in float32: forward, twice as
    much backward, and the sum over the batch, step after step."""
    forward = decoder_sums(config.model, vocab_size, config.data.context)
    step = 3 * forward + config.data.batch_rows * config.data.context
    return rounding(torch.float32, (steps or config.steps) * step)


def assert_near(found, expected, bound, what="they are"):
    """No number is farther from the expected one than `bound` times the largest expected."""
    one, other = (
        x.detach().double().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x) for x in (found, expected)
    )
    assert one.shape == other.shape
    apart, allowed = float(np.abs(one - other).max(initial=0)), bound * float(np.abs(other).max(initial=0))
    assert apart <= allowed, f"{what} {apart:.3g} apart, {allowed:.3g} is rounding"
