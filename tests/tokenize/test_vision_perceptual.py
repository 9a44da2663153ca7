"""LPIPS with its published weights: the reference implementation's values, and what a distance must do."""

import pickle

import numpy as np
import pytest
import torch
from rounding import network_sums, rounding

from reelmill import weights
from reelmill.errors import WeightsError
from reelmill.tokenize.vision import perceptual


@pytest.fixture(scope="module")
def lpips():
    return perceptual.load_lpips()


def pair(seed, height, width, noise=0.2):
    """Two pictures [3, 3, H, W] in [-1, 1]: blocks of 8 x 8 pixels in random colours, and the same with noise."""
    random = np.random.default_rng(seed)
    blocks = random.random((3, 3, height // 8, width // 8), dtype=np.float32)
    clean = np.kron(blocks, np.ones((1, 1, 8, 8), np.float32)) * 2 - 1
    noisy = np.clip(clean + noise * random.standard_normal(clean.shape, dtype=np.float32), -1, 1)
    return torch.from_numpy(clean), torch.from_numpy(noisy)


@pytest.mark.parametrize(
    ("seed", "size", "expected"),
    [  # computed by the authors' package, lpips 0.1.4, net="alex"
        (0, (64, 64), [0.05527637526392937, 0.04452831298112869, 0.03412257879972458]),
        (1, (128, 96), [0.08096574246883392, 0.0707312822341919, 0.07034174352884293]),
        (3, (40, 72), [0.03602807596325874, 0.047064825892448425, 0.037661317735910416]),
    ],
)
def test_distances_are_those_of_the_authors_package(lpips, seed, size, expected):
    bound = rounding(torch.float32, network_sums(lpips), size[0] * size[1])
    assert lpips(*pair(seed, *size)).tolist() == pytest.approx(expected, rel=bound)


def test_it_is_a_distance(lpips):
    clean, noisy = pair(5, 64, 64)
    assert lpips(clean, clean).tolist() == [0, 0, 0]
    bound = rounding(torch.float32, network_sums(lpips), 64 * 64)
    assert lpips(clean, noisy).tolist() == pytest.approx(lpips(noisy, clean).tolist(), rel=bound)
    by_noise = [lpips(*pair(5, 64, 64, noise)).mean().item() for noise in (0.02, 0.1, 0.3, 0.9)]
    assert by_noise == sorted(by_noise)


def test_gradients_reach_the_picture_and_nothing_else(lpips):
    clean, noisy = pair(6, 64, 64)
    noisy.requires_grad_()
    before = lpips(noisy, clean).sum()
    before.backward()
    after = lpips(noisy - 20 * noisy.grad, clean).sum()
    assert after < before
    assert all(parameter.grad is None for parameter in lpips.parameters())


def test_gradients_are_finite_where_features_are_all_zero():
    net = perceptual.LPIPS()
    for convolution in net.convolutions:
        torch.nn.init.constant_(convolution.bias, -1e3)
    picture = torch.zeros(1, 3, 64, 64, requires_grad=True)
    net(picture, torch.ones(1, 3, 64, 64)).sum().backward()
    assert torch.isfinite(picture.grad).all()


@pytest.mark.parametrize("shape", [(1, 3, 30, 64), (1, 1, 64, 64), (3, 64, 64)])
def test_pictures_it_cannot_judge_are_refused(lpips, shape):
    with pytest.raises(ValueError, match="sides of at least 31"):
        lpips(torch.zeros(shape), torch.zeros(shape))


def test_the_smallest_picture_has_a_distance(lpips):
    assert lpips(torch.zeros(1, 3, 31, 31), torch.ones(1, 3, 31, 31)).item() > 0


class Call:
    """Pickles as a call of `print`."""

    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("content", "message"), [(Call(), "builtins.print"), ({"AlexNet_0": {}}, "does not fill LPIPS: 'Conv_0'")]
)
def test_a_pickle_runs_nothing(tmp_path, monkeypatch, capsys, content, message):
    file = tmp_path / "alexnet.ckpt"
    file.write_bytes(pickle.dumps(content))
    monkeypatch.setattr(weights, "path", lambda name: file)
    with pytest.raises(WeightsError, match=message):
        perceptual.load_lpips()
    assert "executed" not in capsys.readouterr().out
