"""Flow and motion scores against rendered motion that is known at every pixel."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reelmill import weights
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create, raft
from reelmill.curation.scorers.motion import evenly_spaced, raft_assignments
from reelmill.errors import ConfigError, WeightsError
from reelmill.pipelines.curate import recipes


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    return raft.load(weights.path("raft-things"))


def texture(height, width, seed=0):
    """RGB structure at all scales, larger than the frames that are cut out of it."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, np.float32)
    for cell in (64, 32, 16, 8, 4):
        grid = rng.normal(size=(height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        picture += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 22
    return np.clip(picture, 0, 255).astype(np.uint8)


def pan(step, count, height=128, width=160, seed=0):
    """Frames [count, H, W, 3] of a camera that moves by `step` = (x, y) pixels a frame."""
    steps = np.arange(count)[:, None] * np.asarray(step)
    return follow(steps, height, width, seed)


def follow(path, height=128, width=160, seed=0):
    """Frames of a camera at the positions `path` [N, 2], in pixels, sub-pixel precise."""
    path = np.asarray(path, float) - np.min(path, axis=0)
    wide, high = (path.max(axis=0) + 1).astype(int)
    picture = texture(height + high + 8, width + wide + 8, seed)
    shifts = [np.array([[1, 0, -x - 4], [0, 1, -y - 4]]) for x, y in path]
    return np.stack([cv2.warpAffine(picture, shift, (width, height), flags=cv2.INTER_LINEAR) for shift in shifts])


def score(name, images=None, runs=None, **options):
    scorer = create(name, options)
    scorer.setup()
    images = np.zeros((0, 8, 8, 3), np.uint8) if images is None else images
    runs = np.zeros((0, 3, 8, 8), np.uint8) if runs is None else runs
    frames = Frames(images, np.arange(len(images)) / 2, runs)
    (row,) = scorer.score([Sample("s", "i", "video", 0.0, 1.0, 64, 64, 30.0, frames)])
    return next(iter(row.values()))


def test_the_authors_checkpoint_fills_torchvisions_raft_exactly(model):
    theirs = torch.load(weights.path("raft-things"), weights_only=True, map_location="cpu")
    names = [name for key in theirs if (name := raft.rename(key)) is not None]
    assert (len(theirs), len(names)) == (179, 169)
    assert set(names) == set(model.state_dict())
    for stage in ("layer2.0", "layer3.0"):  # the ten parameters that are left out are second names
        left_out, kept = (theirs[f"module.cnet.{stage}.{end}.weight"] for end in ("norm3", "downsample.1"))
        assert torch.equal(left_out, kept)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    torch.save({"module.fnet.conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not fill RAFT"):
        raft.load(tmp_path / "other.pth")


@pytest.mark.parametrize(("angle", "shift", "zoom"), [(3, (5, -3), 1.0), (-2, (0, 0), 1.05), (0, (11, 4), 1.0)])
def test_raft_finds_a_known_flow(model, angle, shift, zoom):
    height, width = 128, 168
    first = texture(height, width, seed=3)
    motion = cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom)
    motion[:, 2] += shift
    second = cv2.warpAffine(first, motion, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    goal = np.stack([m[0] * x + m[1] * y + m[2] for m in motion])
    truth = goal - np.stack([x, y])
    seen = np.all((goal >= 0) & (goal < [[[width]], [[height]]]), axis=0)
    found = raft.flow(model, first[None], second[None], iterations=8)[0].numpy()
    error = np.linalg.norm(found - truth, axis=0)[seen].mean()
    assert error < 0.25
    assert np.linalg.norm(truth, axis=0).mean() > 15 * error


def test_the_flow_is_that_of_torchvisions_forward(model):
    """Sums of float32 in another order: RAFT amplifies rounding over its iterations, so few of them are compared."""
    frames = pan((3, 1), 3)
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        theirs = model(images[[0, 1]], images[[1, 2]], num_flow_updates=2)[-1]
    assert theirs.abs().max() > 1
    assert raft.flow(model, frames[:2], frames[1:], 2).numpy() == pytest.approx(theirs.numpy(), abs=1e-3)
    assert raft.flows(model, frames, [0, 1], [1, 2], 2, at_once=1).numpy() == pytest.approx(theirs.numpy(), abs=1e-3)


@pytest.mark.parametrize(("height", "width"), [(60, 90), (131, 165), (40, 1400)])
def test_flow_comes_in_the_frames_own_pixels_at_any_size(model, height, width):
    frames = pan((3, 1), 2, height, width)
    found = raft.flow(model, frames[:1], frames[1:], iterations=4)[0]
    assert found.shape == (2, height, width)
    middle = found[:, height // 4 : -height // 4, width // 4 : -width // 4].mean(dim=(1, 2))
    assert middle.numpy() == pytest.approx([-3, -1], abs=0.35)


def test_motion_is_mean_flow_over_the_shorter_side():
    frames = pan((6, 0), 3)
    assert score("motion_raft", frames) == pytest.approx(6 / 128, rel=0.05)
    assert score("motion_dis", frames) == pytest.approx(6 / 128, rel=0.15)


def test_a_still_clip_has_no_motion():
    frames = np.repeat(pan((0, 0), 1), 3, axis=0)
    assert score("motion_dis", frames) < 0.001
    assert score("motion_raft", frames) < 0.001


def test_raft_takes_few_pairs_or_all():
    frames = np.concatenate([pan((8, 0), 2), np.repeat(pan((8, 0), 2)[-1:], 2, axis=0)])  # moves once, then stands
    moving, last = score("motion_raft", frames[:2]), score("motion_raft", frames[2:])  # as small as the coarse look
    assert score("motion_raft", frames, pairs="all", iterations=8) == pytest.approx((moving + 2 * last) / 3, abs=1e-4)
    assert score("motion_raft", frames, pairs="spaced", spaced=1) == pytest.approx(last, abs=1e-4)


BFLOAT16 = pytest.mark.skipif(not raft.has_fast_bfloat16(), reason="this processor emulates bfloat16, slowly")


@pytest.mark.parametrize("bfloat16", [False, pytest.param(True, marks=BFLOAT16)])
def test_each_look_is_nearer_and_says_how_far_it_may_be_off(monkeypatch, bfloat16):
    monkeypatch.setattr(raft, "has_fast_bfloat16", lambda: bfloat16)
    scorer = create("motion_raft")
    scorer.setup()
    frames = Frames(pan((8, 0), 2, 200, 200), np.arange(2) / 2, np.zeros((0, 3, 8, 8), np.uint8))
    sample = Sample("s", "i", "video", 0.0, 1.0, 200, 200, 30.0, frames)
    (exact,) = scorer.refine([sample])
    looks = scorer.score([sample])
    while looks[-1]["motion_raft_error"]:
        sample.columns.update(looks[-1])
        looks += scorer.refine([sample])
    assert [look["motion_raft_side"] for look in looks] == [128, 128, 192, *[200] * (1 + bfloat16)]
    assert [look["motion_raft_error"] for look in looks] == [1.5, 0.75, 0.25, *[0.1] * bfloat16, 0.0]
    assert [look["motion_raft"] for look in looks] == pytest.approx([8 / 200] * len(looks), rel=0.1)
    assert [look["motion_raft"] for look in looks[2:]] == pytest.approx([8 / 200] * len(looks[2:]), rel=0.03)
    assert looks[-1] == exact
    assert score("motion_raft", frames.images, coarse=False) == exact["motion_raft"]


@given(count=st.integers(1, 500), wanted=st.integers(1, 20))
def test_pairs_are_evenly_spaced(count, wanted):
    chosen = evenly_spaced(count, wanted).tolist()
    assert len(chosen) == min(count, wanted) == len(set(chosen))
    assert all(0 <= index < count for index in chosen)
    gaps = np.diff(chosen)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("name", ["motion_dis", "motion_raft"])
def test_one_frame_has_no_motion_score(name):
    assert score(name, pan((0, 0), 1)) is None


@pytest.mark.parametrize(("height", "width"), [(8, 8), (2, 30), (500, 12)])
def test_tiny_frames_are_scored(height, width):
    frames = pan((0, 0), 2, height, width)
    assert 0 <= score("motion_dis", frames) < 0.05
    assert 0 <= score("motion_jitter", runs=np.stack([frames[[0, 1, 1], ..., 0]])) < 0.05


def runs_of(path, noise=2.0):
    """Runs of three frames, every tenth frame of a camera path at 30 frames/s, with sensor noise."""
    grey = follow(path)[..., 1].astype(float)
    noisy = grey + np.random.default_rng(0).normal(0, noise, grey.shape)
    frames = np.clip(noisy, 0, 255).astype(np.uint8)
    return np.stack([frames[start : start + 3] for start in range(0, len(frames) - 2, 10)])


SECONDS = np.arange(62) / 30


@pytest.mark.parametrize("speed", [0.2, 1.0, 2.0], ids=["slow", "fast", "violent"])
def test_a_smooth_pan_is_not_jitter(speed):
    assert score("motion_jitter", runs=runs_of(np.stack([128 * speed * SECONDS, 0 * SECONDS], axis=1))) < 0.15


def test_a_still_picture_is_not_jitter():
    assert score("motion_jitter", runs=runs_of(np.zeros((62, 2)))) < 0.15


@pytest.mark.parametrize("amplitude", [1.5, 4, 8])
def test_violent_shake_is_jitter(amplitude):
    rng = np.random.default_rng(1)
    shaken = runs_of(rng.uniform(-amplitude, amplitude, (62, 2)))
    assert 0.35 < score("motion_jitter", runs=shaken) <= 1
    swung = amplitude * np.sin(2 * np.pi * 9 * SECONDS)
    assert 0.5 < score("motion_jitter", runs=runs_of(np.stack([swung, 0.6 * swung], axis=1))) <= 1


def test_shake_on_top_of_a_fast_pan_is_told_from_the_pan():
    shake = np.random.default_rng(2).uniform(-8, 8, (62, 2))
    steady = np.stack([64 * SECONDS, 0 * SECONDS], axis=1)
    assert score("motion_jitter", runs=runs_of(steady + shake)) > 0.3 > score("motion_jitter", runs=runs_of(steady))


def test_without_a_run_there_is_no_jitter_score():
    assert score("motion_jitter", pan((1, 0), 2)) is None


def test_raft_on_all_pairs_is_asked_for_on_the_command_line():
    recipe = recipes.load("video", raft_assignments("all"))
    assert recipe.score.scorers["motion_raft"] == {"skip_if": "failed", "pairs": "all"}
    assert raft_assignments("") == []
    with pytest.raises(ConfigError, match="--raft 'most': only `all`"):
        raft_assignments("most")


@pytest.mark.gpu
def test_a_gpu_measures_the_motion_that_a_cpu_measures():
    """Its convolutions round to TF32's 10 bits, and each of 8 updates goes on from the last."""
    frames = pan((3, 1), 5)
    exact = {"pairs": "all", "coarse": False}
    found, expected = (score("motion_raft", frames, device=device, **exact) for device in ("cuda", "cpu"))
    assert found == pytest.approx(expected, rel=0.02)
