"""Emu3.5's tokenizer beside a reference written from its description, on weights alone; folders that hold it."""

import json

import numpy as np
import pytest
import torch
from rounding import assert_near, network_sums, rounding
from safetensors.torch import save_file
from torch.nn import functional as F

from reelmill.errors import ConfigError, DataError, WeightsError
from reelmill.tokenize.layout import EMU3, EMU3_5
from reelmill.tokenize.vision import load, save
from reelmill.tokenize.vision.architectures import build, config_from
from reelmill.tokenize.vision.ibq import IBQ, IBQConfig
from reelmill.tokenize.vision.tokenizer import RunConfig

TINY = IBQConfig(
    channels=32, channel_multipliers=(1, 1, 2, 2), res_blocks=2, attention_levels=(3,), z_channels=24, embed_dim=16,
    codes=200,
)  # fmt: skip


# The reference: functions over a state dict, from the description of VQGAN's network


def norm(weights, name, x):
    return F.group_norm(x, 32, weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6)


def conv(weights, name, x, stride=1):
    kernel = weights[f"{name}.weight"]
    padding = kernel.shape[-1] // 2 if stride == 1 else 0
    return F.conv2d(x, kernel, weights[f"{name}.bias"], stride=stride, padding=padding)


def swish(x):
    return x * x.sigmoid()


def residual(weights, name, x):
    h = conv(weights, f"{name}.conv1", swish(norm(weights, f"{name}.norm1", x)))
    h = conv(weights, f"{name}.conv2", swish(norm(weights, f"{name}.norm2", h)))
    if f"{name}.nin_shortcut.weight" in weights:
        x = conv(weights, f"{name}.nin_shortcut", x)
    return x + h


def attention(weights, name, x):
    normed = norm(weights, f"{name}.norm", x)
    q, k, v = (conv(weights, f"{name}.{part}", normed).flatten(2) for part in "qkv")
    scores = torch.einsum("bci,bcj->bij", q, k) / x.shape[1] ** 0.5
    mixed = torch.einsum("bij,bcj->bci", scores.softmax(2), v).reshape(x.shape)
    return x + conv(weights, f"{name}.proj_out", mixed)


def blocks(weights, name, x):
    for i in range(20):
        if f"{name}.block.{i}.conv1.weight" in weights:
            x = residual(weights, f"{name}.block.{i}", x)
            if f"{name}.attn.{i}.q.weight" in weights:
                x = attention(weights, f"{name}.attn.{i}", x)
    return x


def middle(weights, name, x):
    x = attention(weights, f"{name}.attn_1", residual(weights, f"{name}.block_1", x))
    return residual(weights, f"{name}.block_2", x)


def reference_codes(weights, frames, levels):
    """[N, 3, H, W] in [-1, 1] to [N, h, w]."""
    x = conv(weights, "encoder.conv_in", frames)
    for level in range(levels):
        x = blocks(weights, f"encoder.down.{level}", x)
        if level < levels - 1:
            x = conv(weights, f"encoder.down.{level}.downsample.conv", F.pad(x, (0, 1, 0, 1)), stride=2)
    x = middle(weights, "encoder.mid", x)
    x = conv(weights, "quant_conv", conv(weights, "encoder.conv_out", swish(norm(weights, "encoder.norm_out", x))))
    return torch.einsum("bdhw,nd->bnhw", x, weights["quantize.embedding.weight"]).softmax(1).argmax(1)


def reference_frames(weights, codes, levels):
    """[N, h, w] to [N, 3, H, W]."""
    x = conv(weights, "post_quant_conv", weights["quantize.embedding.weight"][codes].movedim(-1, 1))
    x = middle(weights, "decoder.mid", conv(weights, "decoder.conv_in", x))
    for level in reversed(range(levels)):
        x = blocks(weights, f"decoder.up.{level}", x)
        if level:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = conv(weights, f"decoder.up.{level}.upsample.conv", x)
    return conv(weights, "decoder.conv_out", swish(norm(weights, "decoder.norm_out", x)))


@pytest.fixture(scope="module")
def state():
    """Random weights under the published names, with a codebook in the directions of latents."""
    torch.manual_seed(0)
    with torch.no_grad():
        model = IBQ(TINY)
        for module in model.modules():
            if isinstance(module, torch.nn.GroupNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        latents = model.latents(as_signal(pictures(16))[:, None]).movedim(1, -1).flatten(0, -2)
        chosen = latents[torch.randperm(len(latents))[:200]]
        model.quantize.embedding.weight.copy_(chosen / chosen.norm(dim=1, keepdim=True))
        model.decoder.conv_out.weight.mul_(0.3)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def folder(state, tmp_path_factory):
    place = tmp_path_factory.mktemp("published") / "Emu3.5-VisionTokenizer"
    place.mkdir()
    save_file(state, place / "model.safetensors")
    (place / "config.json").write_text(json.dumps({"architectures": ["IBQ"], "model_type": "anything"}))
    return place


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load(folder)


def pictures(count, height=48, width=64, seed=1):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, height // 8, width // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def as_signal(frames):
    return torch.tensor(frames).movedim(-1, 1).float() / 127.5 - 1


def test_the_published_size_is_exact():
    with torch.device("meta"):
        model = build(IBQConfig())
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert counts == {
        "encoder": 184_533_760, "decoder": 237_117_187, "quantize": 33_554_432, "quant_conv": 65_792,
        "post_quant_conv": 65_792,
    }  # fmt: skip
    assert sum(counts.values()) == 455_336_963


def test_codes_and_pixels_are_the_references(state, tokenizer):
    frames = pictures(3)
    expected = reference_codes(state, as_signal(frames), 4)
    assert len(expected.unique()) > 20
    codes = tokenizer.encode(frames)
    assert (codes.shape, codes.dtype) == ((3, 6, 8), np.int32)
    assert np.array_equal(codes, expected.numpy())
    wanted = (reference_frames(state, expected, 4).clamp(-1, 1) + 1) * 127.5
    assert wanted.std() > 5
    assert np.abs(tokenizer.decode(codes).astype(int) - wanted.movedim(1, -1).numpy()).max() <= 0.6  # it is rounded


def test_a_clip_is_its_frames(tokenizer):
    frames = pictures(5, seed=2)
    assert (tokenizer.spatial, tokenizer.temporal, tokenizer.layout) == (8, 1, EMU3_5)
    codes = tokenizer.encode(frames)
    assert np.array_equal(codes, np.stack([tokenizer.encode_image(frame) for frame in frames]))
    assert np.array_equal(codes, np.concatenate(list(tokenizer.encode_stream(iter(frames)))))
    decoded = tokenizer.decode(codes, frames.shape[:3])
    assert np.array_equal(decoded, np.stack([tokenizer.decode_image(one) for one in codes]))
    assert load("reelmill-tok-xs").layout == EMU3


def test_odd_sizes_and_tiles(tokenizer, folder):
    frame = pictures(1, 120, 160, seed=3)[0][:115, :150]
    codes = tokenizer.encode_image(frame)
    assert codes.shape == (15, 19)
    assert tokenizer.decode_image(codes, frame.shape[:2]).shape == frame.shape
    tiled = load(folder, RunConfig(tile=256))
    assert tiled.encode_image(pictures(1, 264, 40)[0]).shape == (33, 5)
    with pytest.raises(DataError, match=r"0\.\.199"):
        tokenizer.decode_image(np.full((2, 2), 200))


def test_a_checkpoint_of_torch_loads_too_and_code_in_it_does_not_run(state, tokenizer, tmp_path):
    training = {f"loss.{name}": tensor for name, tensor in list(state.items())[:3]}
    torch.save({"state_dict": state | training, "epoch": 3}, tmp_path / "model.ckpt")
    (tmp_path / "config.yaml").write_text("n_embed: 200\n")
    loaded = load(tmp_path)
    assert loaded.config == tokenizer.config == TINY
    assert loaded.fingerprint == tokenizer.fingerprint
    torch.save({"state_dict": state, "hook": print}, tmp_path / "model.ckpt")
    with pytest.raises(WeightsError, match="more than weights"):
        load(tmp_path)


def test_weights_under_a_prefix_load_and_others_say_what_is_wrong(state, tmp_path):
    wrapped = tmp_path / "wrapped"
    wrapped.mkdir()
    save_file({f"model.{name}": tensor for name, tensor in state.items()}, wrapped / "model.safetensors")
    assert load(wrapped).codes == 200
    save_file({n: t for n, t in state.items() if "mid.block_2.conv1.bias" not in n}, wrapped / "model.safetensors")
    with pytest.raises(WeightsError, match="missing"):
        load(wrapped)
    save_file({n: t for n, t in state.items() if n != "quantize.embedding.weight"}, wrapped / "model.safetensors")
    with pytest.raises(WeightsError, match=r"no quantize\.embedding\.weight"):
        load(wrapped)


def test_our_own_files_hold_it(tmp_path, state):
    model = IBQ(TINY)
    model.load_state_dict(state)
    save(model, "mine", tmp_path / "mine.safetensors")
    loaded = load(tmp_path / "mine.safetensors")
    assert (loaded.config, loaded.name, loaded.layout) == (TINY, "mine", EMU3_5)
    assert config_from({"architecture": "ibq", "codes": 7, "channel_multipliers": [1]}).codes == 7


@pytest.mark.parametrize(("patch", "multipliers"), [(16, (1,)), (4, (1, 1, 2))], ids=["one level", "three levels"])
def test_a_linear_codec_may_stand_beside_it(patch, multipliers):
    config = IBQConfig(
        channels=32, channel_multipliers=multipliers, res_blocks=1, attention_levels=(), mid_attention=False,
        patch=patch, z_channels=12, embed_dim=8, codes=64, quantizer="nearest", shortcut=True, decoder_blocks=3,
    )  # fmt: skip
    model = build(config)
    assert (config.spatial_factor, config.temporal_factor) == (16, 1)
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(768, 8))[0].T.contiguous()
    with torch.no_grad():
        for part in (model.encoder, model.decoder):
            part.shortcut.basis.copy_(basis)
        model.quant_conv.bias.zero_()
        frames = torch.rand(2, 3, 32, 48) * 2 - 1
        patches = F.pixel_unshuffle(frames, 16).movedim(1, -1)
        vectors = model.latents(frames[:, None])
        bound = rounding(torch.float32, network_sums(model), 2 * basis.shape[1])
        assert_near(vectors.squeeze(2).movedim(1, -1), patches @ basis.T / 2, bound)
        wanted = F.pixel_shuffle((patches @ basis.T @ basis).movedim(-1, 1), 16)
        assert_near(model.reconstruct(vectors).squeeze(1), wanted, bound)


def test_training_passes_take_pictures_and_clips_or_pictures_alone():
    torch.manual_seed(0)
    model = IBQ(TINY)
    outputs = model(torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(1, 3, 3, 32, 32) * 2 - 1)
    assert (outputs.pictures.shape, outputs.clips.shape) == ((2, 3, 32, 32), (1, 3, 3, 32, 32))
    assert outputs.codes.shape == (5, 1, 4, 4)
    assert outputs.entropy is not None
    alone = model(torch.rand(2, 3, 32, 32), torch.zeros(0, 3, 3, 32, 32))
    assert (alone.pictures.shape, alone.clips.shape) == ((2, 3, 32, 32), (0, 3, 3, 32, 32))
    (alone.pictures.square().mean() + alone.quantizer).backward()
    assert model.quantize.embedding.weight.grad.abs().sum(1).min() > 0


def test_it_has_no_time_axis():
    with pytest.raises(ConfigError, match="no time axis"):
        IBQConfig(temporal_factor=4)
