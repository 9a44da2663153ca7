"""The tokenizer that people use: the shipped weights, determinism, size, quality, and errors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill import weights
from reelmill.errors import ConfigError, DataError, WeightsError
from reelmill.tokenize.layout import EMU3_5
from reelmill.tokenize.vision import evaluate, load, load_by_fingerprint, names, save
from reelmill.tokenize.vision.movq import MoVQ
from reelmill.tokenize.vision.tiles import tiles
from reelmill.tokenize.vision.tokenizer import WEIGHTS, RunConfig, VisionTokenizer
from reelmill.train.vision.media import MediaFile, read_picture, read_video

NAME = "reelmill-tok-xs"


@pytest.fixture(scope="module")
def tokenizer():
    return load(NAME)


def rendered_clip(frames=8, height=96, width=128):
    """A soft disc that crosses a shaded, striped ground."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    clip = []
    for t in range(frames):
        ground = np.stack([90 + 60 * x / width, 110 + 50 * y / height, 140 + 20 * np.sin((x + 2 * t) / 9)], -1)
        disc = np.clip(24 - np.hypot(x - 30 - 5 * t, y - 50), 0, 1)[..., None]
        clip.append(ground * (1 - disc) + np.array([220, 90, 60]) * disc)
    return np.stack(clip).astype(np.uint8)


def test_the_shipped_tokenizer_is_small_and_known_by_name(tokenizer):
    assert names() == ["reelmill-tok-s", NAME, "reelmill-tok16-s"]
    assert (WEIGHTS / f"{NAME}.safetensors").stat().st_size <= 3_000_000
    assert (tokenizer.name, tokenizer.codes, tokenizer.spatial, tokenizer.temporal) == (NAME, 4096, 8, 4)
    assert int(tokenizer.fingerprint, 16) >= 0 and len(tokenizer.fingerprint) == 64
    assert load(NAME).fingerprint == tokenizer.fingerprint


def test_the_larger_one_has_emu3s_codebook_and_grid():
    larger = load("reelmill-tok-s")
    assert (larger.codes, larger.spatial, larger.temporal, larger.config.causal) == (32768, 8, 4, True)
    assert sum(p.numel() for p in larger.model.parameters()) <= 8_000_000
    assert (WEIGHTS / "reelmill-tok-s.safetensors").stat().st_size <= 16_000_000
    assert load_by_fingerprint(larger.fingerprint).name == "reelmill-tok-s"
    with pytest.raises(DataError, match="none of the shipped tokenizers"):
        load_by_fingerprint("beef")


def test_the_one_of_emu3_5s_kind_has_its_cell_and_layout():
    frames = load("reelmill-tok16-s")
    assert (frames.codes, frames.spatial, frames.temporal, frames.layout) == (16_384, 16, 1, EMU3_5)
    assert sum(p.numel() for p in frames.model.parameters()) <= 6_000_000
    assert (WEIGHTS / "reelmill-tok16-s.safetensors").stat().st_size <= 6_000_000
    assert load_by_fingerprint(frames.fingerprint).name == "reelmill-tok16-s"


@pytest.mark.parametrize(
    ("tokenizer_name", "name", "floor"),
    [
        ("reelmill-tok-s", "media-bigbuckbunny", 21.5),
        ("reelmill-tok-s", "media-flower", 23.8),
        ("reelmill-tok16-s", "media-flower", 22.8),
    ],
)
def test_the_larger_ones_reconstruct_real_media_they_never_saw(tokenizer_name, name, floor):
    path = weights.path(name)
    frames = read_video(MediaFile(path), 256, limit=4) if path.suffix == ".mp4" else read_picture(MediaFile(path), 256)
    tokenizer = load(tokenizer_name)
    fitted = evaluate.fit(frames, 256**2, tokenizer.spatial)
    assert evaluate.evaluate(tokenizer, {"it": fitted})["psnr/it"] >= floor


def test_a_causal_clip_is_one_sequence():
    larger = load("reelmill-tok-s")
    clip = rendered_clip(16, 48, 64)
    codes = larger.encode(clip)
    with torch.inference_mode():
        whole = larger.model.encode(torch.tensor(clip).movedim(-1, 1)[None].float() / 127.5 - 1)[0]
    assert (codes == whole.numpy()).mean() > 0.99
    assert np.array_equal(larger.encode(clip[:8]), codes[:2])
    assert not np.array_equal(larger.encode(clip[8:]), codes[2:])
    assert np.array_equal(larger.decode(codes[:2]), larger.decode(codes)[:8])


def test_it_reconstructs_rendered_video_and_pictures(tokenizer):
    clip = rendered_clip()
    codes = tokenizer.encode(clip)
    assert codes.shape == (2, 12, 16) and codes.dtype == np.int32
    decoded = tokenizer.decode(codes)
    assert decoded.shape == clip.shape and decoded.dtype == np.uint8
    assert evaluate.psnr(clip, decoded) >= 20
    assert min(evaluate.psnr(a, b) for a, b in zip(clip, decoded, strict=True)) >= 20
    assert evaluate.psnr(clip[0], tokenizer.decode_image(tokenizer.encode_image(clip[0]))) >= 20


@pytest.mark.parametrize("name", ["media-carphone", "media-rocket"])
def test_it_reconstructs_real_media_it_never_saw(tokenizer, name):
    path = weights.path(name)
    frames = read_video(MediaFile(path), 144, limit=12) if path.suffix == ".mp4" else read_picture(MediaFile(path), 256)
    scores = evaluate.evaluate(tokenizer, {"it": evaluate.fit(frames, 128**2, 8)})
    assert scores["psnr/it"] >= 19.5
    assert 0 < scores["codes_used"] < 1


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 999), chunks=st.integers(1, 4))
def test_codes_do_not_depend_on_what_else_is_encoded(tokenizer, seed, chunks):
    rng = np.random.default_rng(seed)
    clip = rng.integers(0, 256, (4 * chunks, 24, 32, 3), dtype=np.uint8)
    whole = tokenizer.encode(clip)
    alone = [tokenizer.encode(clip[4 * i : 4 * i + 4])[0] for i in range(chunks)]
    assert np.array_equal(whole, np.stack(alone))
    assert np.array_equal(whole, tokenizer.encode(clip))
    apart = np.concatenate([tokenizer.decode(codes[None]) for codes in alone])
    assert np.array_equal(tokenizer.decode(whole), apart)


def test_an_image_is_four_equal_frames(tokenizer):
    image = rendered_clip(1)[0]
    codes = tokenizer.encode_image(image)
    assert np.array_equal(codes, tokenizer.encode(np.stack([image] * 4))[0])
    first = tokenizer.decode(codes[None])[0].astype(int)
    assert np.abs(first - tokenizer.decode_image(codes)).max() <= 1


@pytest.mark.parametrize("name", ["reelmill-tok-xs", "reelmill-tok-s", "reelmill-tok16-s"])
def test_pictures_of_one_size_are_encoded_together(name, monkeypatch):
    """As a GPU does it, with a picture of tiles, and one picture left over."""
    pictures = rendered_clip(3, 40, 536)[:, :, ::-1]
    apart = load(name, RunConfig(tile=512))
    expected = [apart.encode_image(picture) for picture in pictures]
    assert np.array_equal(apart.encode_images(pictures), expected)
    monkeypatch.setattr(VisionTokenizer, "pictures_at_once", 2)
    # Sums in another order move few codes, if any.
    assert np.mean(apart.encode_images(pictures) == expected) > 0.98


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), side=st.integers(32, 128))
def test_tiles_cover_a_frame_once_and_are_bounded(height, width, side):
    covered = np.zeros((height, width), int)
    whole = np.arange(height * width).reshape(height, width)
    for tile in tiles((height, width), side):
        covered[tile.inner] += 1
        outer = whole[tile.outer]
        assert max(outer.shape) <= side
        assert np.array_equal(outer[tile.kept], whole[tile.inner])
    assert (covered == 1).all()


def test_large_frames_are_tiled_and_look_the_same(tokenizer):
    clip = rendered_clip(4, 264, 272)
    tiled = load(NAME, RunConfig(tile=256))
    codes = tiled.encode(clip)
    assert codes.shape == tokenizer.encode(clip).shape == (1, 33, 34)
    whole, parts = tokenizer.decode(tokenizer.encode(clip)), tiled.decode(codes, clip.shape[:3])
    assert evaluate.psnr(clip, parts) > evaluate.psnr(clip, whole) - 1
    assert tiled.decode_image(tiled.encode_image(clip[0])).shape == clip[0].shape
    assert tiled.fingerprint != tokenizer.fingerprint


def test_how_many_frames_are_taken_at_once_changes_no_code(tokenizer):
    clip = rendered_clip(20, 48, 64)
    codes = tokenizer.encode(clip)
    assert np.array_equal(load(NAME, RunConfig(batch=12)).encode(clip), codes)
    assert load(NAME, RunConfig(batch=12)).fingerprint == tokenizer.fingerprint


def test_frames_may_come_one_after_the_other():
    """Through tiles too, each of which goes on where it ended."""
    clip = rendered_clip(14, 264, 40)
    tokenizer = load("reelmill-tok-s", RunConfig(batch=4, tile=256))
    parts = list(tokenizer.encode_stream(frame for frame in clip))
    assert [len(part) for part in parts] == [1, 1, 1, 1]
    assert np.array_equal(np.concatenate(parts), tokenizer.encode(clip))
    assert np.array_equal(np.concatenate(parts), load("reelmill-tok-s", RunConfig(tile=256)).encode(clip))
    with pytest.raises(DataError, match="no frames"):
        list(tokenizer.encode_stream([]))


def test_bfloat16_changes_few_codes_and_is_another_fingerprint(tokenizer):
    clip = rendered_clip(8, 64, 64)
    fast = load(NAME, RunConfig(precision="bfloat16"))
    assert fast.fingerprint != tokenizer.fingerprint
    assert evaluate.psnr(clip, fast.decode(fast.encode(clip))) > 20


@pytest.mark.slow
def test_compiled_is_the_same(tokenizer):
    clip = rendered_clip(8, 64, 64)
    fast = load(NAME, RunConfig(compile=True))
    assert (fast.encode(clip) == tokenizer.encode(clip)).mean() > 0.99


@pytest.mark.gpu
def test_on_a_gpu_in_bfloat16_batched_and_compiled(tokenizer):
    clip = rendered_clip(64, 256, 256)
    fast = load(NAME, RunConfig(device="cuda", precision="bfloat16", batch=32, compile=True))
    decoded = fast.decode(fast.encode(clip))
    assert evaluate.psnr(clip, decoded) > evaluate.psnr(clip, tokenizer.decode(tokenizer.encode(clip))) - 0.5


@pytest.mark.gpu
@pytest.mark.parametrize("name", [NAME, "reelmill-tok16-s"])
def test_a_gpu_gives_the_codes_of_a_cpu_but_where_rounding_decides(name):
    """As tokenizing runs it: float32, whose convolutions round to TF32's 10 bits, pictures together."""
    pictures = rendered_clip(8, 128, 128)
    one, other = (load(name, RunConfig(device=device, batch=4)) for device in ("cuda", "cpu"))
    codes, expected = one.encode_images(pictures), other.encode_images(pictures)
    assert (codes == expected).mean() > 0.95
    decoded = [np.stack([other.decode_image(each) for each in some]) for some in (codes, expected)]
    assert abs(evaluate.psnr(pictures, decoded[0]) - evaluate.psnr(pictures, decoded[1])) < 0.1


@pytest.mark.parametrize(("run", "message"), [({"tile": 100}, "tile is 100"), ({"batch": 6}, "batch is 6")])
def test_impossible_ways_to_run_raise(run, message):
    with pytest.raises(ConfigError, match=message):
        load(NAME, RunConfig(**run))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 999))
def test_any_codes_decode(tokenizer, seed):
    codes = np.random.default_rng(seed).integers(0, tokenizer.codes, (1, 2, 3), dtype=np.int32)
    assert tokenizer.decode(codes).shape == (4, 16, 24, 3)


@settings(max_examples=12, deadline=None)
@given(frames=st.integers(1, 9), height=st.integers(1, 40), width=st.integers(1, 40))
def test_any_size_and_length_is_padded_to_the_grid_and_cropped_back(tokenizer, frames, height, width):
    clip = np.random.default_rng(frames).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    codes = tokenizer.encode(clip)
    assert codes.shape == (-(-frames // 4), -(-height // 8), -(-width // 8))
    assert tokenizer.decode(codes, clip.shape[:3]).shape == clip.shape
    padding = ((0, -frames % 4), (0, -height % 8), (0, -width % 8), (0, 0))
    assert np.array_equal(codes, tokenizer.encode(np.pad(clip, padding, mode="edge")))
    image = clip[0]
    assert tokenizer.decode_image(tokenizer.encode_image(image), image.shape[:2]).shape == image.shape


def test_strided_views_give_the_same_codes(tokenizer):
    clip = rendered_clip(8)
    assert np.array_equal(tokenizer.encode(clip[::2]), tokenizer.encode(clip[::2].copy()))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((4, 16, 16, 3), np.float32), "float32"),
        (np.zeros((16, 16, 3), np.uint8), r"it must be \[T, H, W, 3\]"),
        (np.zeros((4, 3, 16, 16), np.uint8), r"it must be \[T, H, W, 3\]"),
        (np.zeros((0, 16, 16, 3), np.uint8), "nothing to encode"),
        (np.zeros((4, 0, 16, 3), np.uint8), "nothing to encode"),
        ("clip.mp4", "str"),
    ],
)
def test_wrong_frames_raise(tokenizer, frames, message):
    with pytest.raises(DataError, match=message):
        tokenizer.encode(frames)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.full((1, 2, 2), 4096), "0..4095"),
        (np.full((1, 2, 2), -1), "-1"),
        (np.zeros((2, 2), np.int32), r"it must be \[T, h, w\]"),
        (np.zeros((0, 2, 2), np.int32), "none of them 0"),
        (np.zeros((1, 2, 2), np.float64), "float64"),
        (np.zeros((1, 3000, 3000), np.int8), "at most"),
    ],
)
def test_wrong_codes_raise(tokenizer, codes, message):
    with pytest.raises(DataError, match=message):
        tokenizer.decode(codes)


def test_a_saved_tokenizer_loads_with_the_same_codes(tokenizer, tmp_path):
    path = tmp_path / "mine.safetensors"
    save(tokenizer.model, "mine", path)
    again = load(path)
    assert (again.name, again.fingerprint) == ("mine", tokenizer.fingerprint)
    model = MoVQ(tokenizer.config)
    model.load_state_dict(tokenizer.model.state_dict())
    with torch.no_grad():
        model.encoder.conv_out.bias.add_(0.01)
    save(model, "mine", path)
    assert load(path).fingerprint != tokenizer.fingerprint


def test_missing_and_damaged_weights_raise(tmp_path):
    with pytest.raises(WeightsError, match=NAME):
        load("reelmill-tok-xl")
    whole = (WEIGHTS / f"{NAME}.safetensors").read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="damaged"):
        load(damaged)
    from safetensors.torch import save_file

    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(1)}, foreign)
    with pytest.raises(WeightsError, match="metadata"):
        load(foreign)


def test_psnr_and_flicker_of_known_errors():
    black = np.zeros((4, 8, 8, 3), np.uint8)
    assert evaluate.psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)
    assert evaluate.flicker(black, black + 9) == 0
    blinking = black.copy()
    blinking[1::2] = 6
    assert evaluate.flicker(black, blinking) == 6


def test_an_unknown_name_is_answered_with_everything_that_is_allowed():
    with pytest.raises(WeightsError, match="no vision tokenizer 'reelmill-tok'") as refused:
        load("reelmill-tok")
    for allowed in ("reelmill-tok-s", "reelmill-tok-xs", "emu3-vision-tokenizer", ".safetensors", "folder"):
        assert allowed in str(refused.value)
