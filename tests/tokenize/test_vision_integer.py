"""Encoding in whole numbers: its error, the same codes with and without the processor's instructions, its name."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reelmill import weights
from reelmill.errors import DataError
from reelmill.tokenize.vision import evaluate, integer, load, load_by_fingerprint
from reelmill.tokenize.vision.integer import IntegerConv
from reelmill.tokenize.vision.tokenizer import RunConfig
from reelmill.train.vision.media import MediaFile, read_picture, read_video

NAME = "reelmill-tok-s"


@pytest.fixture(scope="module")
def whole():
    return load(f"{NAME}-int8")


@pytest.fixture(scope="module")
def media():
    """Four frames of a video and a photograph, of which the tokenizers saw none."""
    film, flower = (MediaFile(weights.path(f"media-{name}")) for name in ("bigbuckbunny", "flower"))
    return [evaluate.fit(frames, 192**2, 16) for frames in (read_video(film, 256, limit=4), read_picture(flower, 256))]


@pytest.mark.parametrize(("stride", "padding", "offset"), [(1, 1, 0.0), (2, 0, 0.0), (1, 1, 5.0), (1, 1, -5.0)])
@pytest.mark.parametrize("kernels", [True, False])
def test_it_is_the_convolution_up_to_half_a_step_of_each_number(stride, padding, offset, kernels, monkeypatch):
    torch.manual_seed(0)
    if not kernels:
        monkeypatch.setattr(integer, "has_integer_kernels", lambda: False)
    layer = nn.Conv2d(24, 16, 3, stride, padding).requires_grad_(False)
    frames = torch.randn(2, 24, 9, 11) * torch.tensor([1.0, 100.0])[:, None, None, None] + offset
    made, exact = IntegerConv(layer)(frames), layer(frames)
    assert made.shape == exact.shape and made.dtype == torch.float32
    low, high = frames.amin((1, 2, 3)).clamp(max=0), frames.amax((1, 2, 3)).clamp(min=0)
    step = ((high - low) / 254)[:, None, None, None]
    steps = layer.weight.abs().amax((1, 2, 3), keepdim=True) / 127

    def sums(weight):
        return F.conv2d(frames.abs(), weight, None, stride, padding)

    # A product is off by half a step of either factor, and by both.
    bound = (
        sums((steps / 2).expand_as(layer.weight))
        + step / 2 * (layer.weight.abs() + steps / 2).sum((1, 2, 3))[:, None, None]
    )
    assert ((made - exact).abs() <= bound * 1.001 + 1e-4).all()
    assert torch.equal(made[1:], IntegerConv(layer)(frames[1:]))


def test_a_frame_of_one_value_is_no_error():
    layer = nn.Conv2d(8, 8, 3, padding=1).requires_grad_(False)
    assert torch.allclose(IntegerConv(layer)(torch.zeros(1, 8, 4, 4)), layer.bias[:, None, None].expand(1, 8, 4, 4))


@pytest.mark.parametrize("name", [NAME, "reelmill-tok16-s"])
def test_codes_do_not_depend_on_the_instructions_but_by_rounding(name, media, monkeypatch):
    here = [load(f"{name}-int8").encode(frames) for frames in media]
    monkeypatch.setattr(integer, "has_integer_kernels", lambda: False)
    elsewhere = [load(f"{name}-int8").encode(frames) for frames in media]
    for one, other in zip(here, elsewhere, strict=True):
        # A number that is rounded the other way moves others after it.
        assert np.mean(one == other) > 0.98


@pytest.mark.parametrize("name", [NAME, "reelmill-tok16-s"])
def test_pictures_lose_nothing_that_is_seen(name, media):
    plain, whole = load(name), load(f"{name}-int8")
    lost = []
    for frames in media:
        pair = [evaluate.psnr(frames, plain.decode(t.encode(frames), frames.shape[:3])) for t in (plain, whole)]
        lost.append(pair[0] - pair[1])
    assert np.mean(lost) < 0.02
    assert max(lost) < 0.05


def test_codes_do_not_depend_on_what_is_taken_at_once(whole, media):
    clip = np.concatenate([media[0], media[0][::-1]])[:, :64, :72]
    codes = whole.encode(clip)
    assert np.array_equal(load(f"{NAME}-int8", RunConfig(batch=8)).encode(clip), codes)
    assert np.array_equal(whole.encode(clip[:4]), codes[:1])
    assert np.array_equal(whole.encode_images(clip[:2]), [whole.encode_image(frame) for frame in clip[:2]])


def test_it_has_a_name_and_a_fingerprint_of_its_own(whole):
    plain = load(NAME)
    assert whole.name == f"{NAME}-int8" and whole.run.precision == "int8"
    assert whole.fingerprint != plain.fingerprint
    assert whole.fingerprint == load(NAME, RunConfig(precision="int8")).fingerprint
    for wanted in (plain, whole):
        assert load_by_fingerprint(wanted.fingerprint).fingerprint == wanted.fingerprint
        for named in (NAME, f"{NAME}-int8"):  # both decode alike
            assert load_by_fingerprint(wanted.fingerprint, named).fingerprint == wanted.fingerprint
    with pytest.raises(DataError, match="reelmill-tok-xs-int8 is"):
        load_by_fingerprint(plain.fingerprint, "reelmill-tok-xs-int8")
    codes = np.random.default_rng(0).integers(0, plain.codes, (1, 4, 4), dtype=np.int32)
    assert np.array_equal(whole.decode(codes), plain.decode(codes))


@pytest.mark.gpu
def test_a_gpu_finds_the_same_codes_but_by_rounding(whole, media):
    there = load(f"{NAME}-int8", RunConfig(device="cuda", batch=4))
    for frames in media:
        assert np.mean(there.encode(frames) == whole.encode(frames)) > 0.99
