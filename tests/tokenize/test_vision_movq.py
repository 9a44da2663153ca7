"""The MoVQ architecture: Emu3's size and names, shapes, causality, streaming, and what an image is."""

from dataclasses import replace

import pytest
import torch
from rounding import assert_near, network_sums, rounding

from reelmill.errors import ConfigError
from reelmill.tokenize.vision.model import Stream
from reelmill.tokenize.vision.movq import EMU3, MoVQ, MoVQConfig

TINY = MoVQConfig(channels=16, channel_multipliers=(1, 2), res_blocks=1, attention_levels=(1,), norm_groups=4, codes=64)
TINY_PATCH = MoVQConfig(
    channels=16, channel_multipliers=(1, 1), res_blocks=1, attention_levels=(), mid_attention=False, patch=4,
    z_channels=8, embed_dim=8, norm_groups=4, temporal_norm="group", quantizer="fsq", codes=64, fsq_levels=(8, 8),
)  # fmt: skip


TINY_SHORTCUT = replace(
    TINY_PATCH,
    channel_multipliers=(1,),
    patch=8,
    quantizer="nearest",
    codes=16,
    fsq_levels=(),
    shortcut=True,
    causal=True,
)


def tiny(config):
    """A network with random weights and, for nearest codes, a codebook spread over its latents."""
    torch.manual_seed(0)
    model = MoVQ(config).eval().requires_grad_(False)
    if config.shortcut:
        basis = torch.linalg.qr(torch.randn(192, config.embed_dim)).Q.T
        for part in (model.encoder, model.decoder):
            part.shortcut.basis.copy_(basis)
            part.shortcut.offset.fill_(0.1)
            torch.nn.init.normal_(part.conv_out.weight, std=0.05)
    if config.quantizer == "nearest":
        latents = model.latents(torch.rand(2, 8, 3, 16, 16) * 2 - 1).movedim(1, -1).flatten(0, -2)
        model.quantize.embedding.weight.copy_(latents[torch.randperm(len(latents))[: config.codes]])
    return model


def bound(model):
    """Of what a network makes in another order of the same sums."""
    return rounding(torch.float32, network_sums(model))


def apart(one, other):
    """The largest difference, relative to the largest number."""
    return float((one - other).abs().max() / one.abs().max())


def test_emu3_has_exactly_its_published_parameters():
    with torch.device("meta"):
        model = MoVQ(EMU3)
    counts = {
        name: sum(p.numel() for key, p in model.named_parameters() if key.startswith(name))
        for name in ("encoder.time", "encoder", "decoder.time", "decoder", "quantize", "quant_conv", "post_quant_conv")
    }
    assert counts["encoder"] - counts["encoder.time"] == 109_485_316
    assert counts["encoder.time"] == 2_936
    assert counts["decoder"] - counts["decoder.time"] == 161_118_211
    assert counts["decoder.time"] == 2_648
    assert counts["quantize"] == 131_072
    assert counts["quant_conv"] + counts["post_quant_conv"] == 104
    assert sum(p.numel() for p in model.parameters()) == 270_740_287


def test_emu3_names_are_the_checkpoints():
    with torch.device("meta"):
        names = set(MoVQ(EMU3).state_dict())
    assert {
        "encoder.conv_in.weight",
        "encoder.down.3.attn.1.q.weight",
        "encoder.down.0.downsample.conv.bias",
        "encoder.mid.attn_1.proj_out.weight",
        "encoder.time_conv.1.conv.conv.weight",
        "encoder.time_res_stack.0.norm1.running_mean",
        "decoder.mid.block_1.norm1.norm_layer.weight",
        "decoder.up.3.block.2.norm2.conv_b.weight",
        "decoder.up.1.upsample.conv.weight",
        "decoder.up.2.block.0.nin_shortcut.weight",
        "decoder.time_conv.0.conv.conv.weight",
        "decoder.norm_out.conv_y.weight",
        "quantize.embedding.weight",
        "quant_conv.conv.weight",
        "post_quant_conv.conv.weight",
    } <= names


@pytest.mark.parametrize("config", [TINY, TINY_PATCH], ids=["nearest", "fsq-patch"])
def test_shapes(config):
    model, side = tiny(config), config.spatial_factor
    codes = model.encode(torch.rand(2, 8, 3, 2 * side, 3 * side) * 2 - 1)
    assert codes.shape == (2, 2, 2, 3)
    assert model.decode(codes).shape == (2, 8, 3, 2 * side, 3 * side)
    assert model.encode_images(torch.rand(2, 3, 2 * side, 3 * side)).shape == (2, 2, 3)
    assert model.decode_images(codes[:, 0]).shape == (2, 3, 2 * side, 3 * side)


@pytest.mark.parametrize("config", [TINY, TINY_PATCH], ids=["nearest", "fsq-patch"])
@pytest.mark.parametrize("causal", [False, True], ids=["chunks", "causal"])
def test_latent_frames_never_see_later_ones_and_earlier_ones_only_when_causal(config, causal):
    model = tiny(replace(config, causal=causal))
    clip = torch.rand(1, 12, 3, 16, 16) * 2 - 1
    changed = clip.clone()
    changed[:, 4:8] *= -1
    codes, after = model.encode(clip), model.encode(changed)
    assert torch.equal(codes[:, 0], after[:, 0])
    assert not torch.equal(codes[:, 1], after[:, 1])
    assert torch.equal(codes[:, 2], after[:, 2]) or causal
    other = codes.clone()
    other[:, 1] = (other[:, 1] + 1) % config.codes
    one, two = model.decode(codes), model.decode(other)
    assert_near(one[:, :4], two[:, :4], bound(model))
    assert apart(one[:, 4:8], two[:, 4:8]) > bound(model)
    assert (apart(one[:, 8:], two[:, 8:]) > bound(model)) == causal


@pytest.mark.parametrize("config", [TINY, TINY_PATCH, TINY_SHORTCUT], ids=["nearest", "fsq-patch", "shortcut"])
def test_a_stream_of_chunks_equals_the_whole_clip(config):
    model = tiny(replace(config, causal=True))
    clip = torch.rand(2, 20, 3, 16, 24) * 2 - 1
    whole = model.latents(clip)
    stream = Stream()
    parts = [model.latents(clip[:, i:j], stream) for i, j in ((0, 4), (4, 12), (12, 16), (16, 20))]
    assert_near(torch.cat(parts, dim=2), whole, bound(model))
    codes = model.encode(clip)
    stream = Stream()
    decoded = [model.decode(codes[:, i:j], stream) for i, j in ((0, 1), (1, 4), (4, 5))]
    assert_near(torch.cat(decoded, dim=1), model.decode(codes), bound(model))


@pytest.mark.parametrize(
    "config",
    [TINY, TINY_PATCH, replace(TINY_PATCH, causal=True), TINY_SHORTCUT, replace(TINY_SHORTCUT, causal=False)],
    ids=["nearest", "fsq", "causal", "shortcut", "shortcut-chunks"],
)
def test_a_training_pass_reconstructs_what_encoding_and_decoding_do(config):
    model = tiny(config)
    pictures, clips = torch.rand(3, 3, 16, 24) * 2 - 1, torch.rand(2, 8, 3, 16, 24) * 2 - 1
    outputs = model(pictures, clips)
    assert_near(outputs.pictures, model.decode_images(model.encode_images(pictures)), bound(model))
    assert_near(outputs.clips, model.decode(model.encode(clips)), bound(model))
    sites = pictures.shape[-1] * pictures.shape[-2] // config.spatial_factor**2
    assert outputs.codes.numel() == (3 + 2 * 2) * sites and outputs.vectors.shape[1] == config.embed_dim


@pytest.mark.parametrize("frame", range(4))
def test_every_frame_of_a_chunk_reaches_the_latent(frame):
    model = tiny(TINY_PATCH)
    clip = torch.rand(1, 4, 3, 16, 16) * 2 - 1
    changed = clip.clone()
    changed[:, frame] *= -1
    assert apart(model.latents(clip), model.latents(changed)) > bound(model)


def test_with_a_shortcut_the_network_begins_as_a_linear_codec_of_patches():
    model = tiny(TINY_SHORTCUT)
    basis = model.encoder.shortcut.basis
    for part in (model.encoder, model.decoder):
        torch.nn.init.zeros_(part.conv_out.weight)
    clips = torch.rand(2, 8, 3, 16, 24) * 2 - 1
    averaged = clips.unflatten(1, (2, 4)).mean(2)
    patches = torch.nn.functional.pixel_unshuffle(averaged, 8).movedim(2, -1) - 0.1
    wanted = torch.nn.functional.pixel_shuffle((patches @ basis.T @ basis + 0.1).movedim(-1, 2), 8)
    made = model.reconstruct(model.latents(clips)).unflatten(1, (2, 4))
    for frame in range(4):
        assert_near(made[:, :, frame], wanted, bound(model))


@pytest.mark.parametrize("config", [TINY, TINY_PATCH, TINY_SHORTCUT], ids=["nearest", "fsq-patch", "shortcut"])
def test_an_image_is_four_equal_frames_and_its_decoding_is_the_first(config):
    model = tiny(config)
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    clip = image.unsqueeze(1).repeat(1, 4, 1, 1, 1)
    assert torch.equal(model.encode_images(image), model.encode(clip)[:, 0])
    codes = model.encode_images(image)
    assert_near(model.decode_images(codes), model.decode(codes.unsqueeze(1))[:, 0], bound(model))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 20}, "multiples of norm_groups"),
        ({"embed_dim": 8}, "must be equal"),
        ({"temporal_factor": 3}, "power of two"),
        ({"patch": 0}, "at least 1"),
        ({"temporal_norm": "group", "temporal_norm_groups": 3}, "multiple of temporal_norm_groups"),
    ],
)
def test_impossible_configurations_raise(change, message):
    with pytest.raises(ConfigError, match=message):
        MoVQConfig(**change)
