"""The same random weights here and in transformers' Emu3VQVAE: same codes, same pixels; folders that hold them."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rounding import assert_near, network_sums, rounding
from safetensors.torch import load_file, save_file

from reelmill import weights
from reelmill.compat import torchvision
from reelmill.errors import WeightsError
from reelmill.tokenize.vision import load
from reelmill.tokenize.vision.model import Stream
from reelmill.tokenize.vision.movq import EMU3, MoVQ
from reelmill.tokenize.vision.published import NAME, our_name, read_config

torchvision()  # transformers imports it

from transformers import Emu3VQVAE, Emu3VQVAEConfig  # noqa: E402

SIZES = [(32, 32), (24, 40), (48, 8)]
TINY = {
    "codebook_size": 256, "base_channels": 32, "channel_multiplier": [1, 1, 2, 2], "num_res_blocks": 1,
    "attn_resolutions": [3], "hidden_size": 64,
}  # fmt: skip
TINY_PUBLISHED = {
    "model_type": "Emu3VisionVQ", "codebook_size": 256, "ch": 32, "ch_mult": [1, 1, 2, 2], "num_res_blocks": 1,
    "attn_resolutions": [3], "embed_dim": 4, "z_channels": 4, "double_z": False, "in_channels": 3, "out_channels": 3,
    "temporal_downsample_factor": 4, "dropout": 0.0, "torch_dtype": "float32", "architectures": ["Emu3VisionVQModel"],
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def peer():
    """transformers' tokenizer, tiny, with random weights, used BatchNorm statistics and a codebook over its latents."""
    torch.manual_seed(0)
    model = Emu3VQVAE(Emu3VQVAEConfig(**TINY)).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.5, 0.5)
        elif isinstance(module, torch.nn.GroupNorm):
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.5, 0.5)
    latents = model.quant_conv(model.encoder(clips(8, 4, 64, 64)).transpose(1, 2)).movedim(1, -1).flatten(0, -2)
    model.quantize.embedding.weight.copy_(latents[torch.randperm(len(latents))[:256]])
    model.decoder.conv_out.weight.mul_(0.1)  # pixels of the size of a picture's
    return model


@pytest.fixture(scope="module")
def folder(peer, tmp_path_factory):
    place = tmp_path_factory.mktemp("peer") / "tiny"
    peer.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load(folder)


@pytest.fixture(scope="module")
def whole(tokenizer):
    """The same model, a clip being one sequence."""
    model = MoVQ(replace(tokenizer.config, causal=True)).eval()
    model.load_state_dict(tokenizer.model.state_dict())
    return model


def clips(count, frames, height, width):
    """Smooth moving noise in [-1, 1], [count, frames, 3, height, width]."""
    noise = torch.randn(count, 3, max(2, frames // 2), height // 8, width // 8)
    clip = torch.nn.functional.interpolate(noise, size=(frames, height, width), mode="trilinear")
    return clip.transpose(1, 2).clamp(-1, 1)


def encode(peer, frames):
    """The peer's codes, whole: of clips, its cut to `image_sizes` would cut time and height."""
    uncut = torch.full((len(frames), 2), 4096)
    return torch.stack(peer.encode(pixel_values=frames, image_sizes=uncut).image_tokens)


def assert_same_pixels(peer, ours, theirs):
    assert theirs.std() > 0.05
    assert_near(ours, theirs, rounding(ours.dtype, network_sums(peer)))


def test_every_tensor_of_the_peer_has_one_place_here(peer, tokenizer):
    ours, theirs = tokenizer.model.state_dict(), peer.state_dict()
    assert sorted(map(our_name, theirs)) == sorted(ours)
    for name, tensor in theirs.items():
        assert torch.equal(ours[our_name(name)].reshape(tensor.shape), tensor), name
    assert sorted(our_name(f"model.vqmodel.{name}") for name in theirs) == sorted(ours)
    assert sorted(map(our_name, ours)) == sorted(ours)


def test_emu3s_configuration_has_the_same_parameters_in_both():
    with torch.device("meta"):
        theirs, ours = Emu3VQVAE(Emu3VQVAEConfig()), MoVQ(EMU3)
    shapes = {our_name(name): tensor.numel() for name, tensor in theirs.state_dict().items()}
    assert shapes == {name: tensor.numel() for name, tensor in ours.state_dict().items()}
    assert sum(parameter.numel() for parameter in theirs.parameters()) == 270_740_287


@pytest.mark.parametrize("size", SIZES)
def test_images(peer, tokenizer, size):
    images = clips(2, 1, *size)[:, 0]
    codes = tokenizer.model.encode_images(images)
    assert codes.unique().numel() > 5
    assert torch.equal(codes, encode(peer, images))
    assert_same_pixels(peer, tokenizer.model.decode_images(codes), peer.decode(codes))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("frames", [4, 8, 12])
def test_whole_clips(peer, whole, frames, size):
    clip = clips(2, frames, *size)
    codes = whole.encode(clip)
    assert codes.shape == (2, frames // 4, size[0] // 8, size[1] // 8)
    assert torch.equal(codes, encode(peer, clip))
    assert_same_pixels(peer, whole.decode(codes), peer.decode(codes))


def test_in_double_precision_nothing_is_left_of_the_difference(peer, whole):
    clip = clips(1, 8, 24, 40).double()
    theirs, ours = copy.deepcopy(peer).double(), copy.deepcopy(whole).double()
    codes = ours.encode(clip)
    assert torch.equal(codes, encode(theirs, clip))
    assert_same_pixels(theirs, ours.decode(codes), theirs.decode(codes))


def test_streaming_chunk_by_chunk_gives_the_peers_whole_clip(peer, whole):
    clip, stream = clips(1, 12, 24, 40), Stream()
    codes = torch.cat([whole.encode(chunk, stream) for chunk in clip.split(4, dim=1)], dim=1)
    assert torch.equal(codes, encode(peer, clip))
    decoded = torch.cat([whole.decode(latent, stream) for latent in codes.split(1, dim=1)], dim=1)
    assert_same_pixels(peer, decoded, peer.decode(codes))


def test_independent_chunks_are_emu3s_own_example(peer, tokenizer, whole):
    clip = clips(1, 12, 24, 40)
    codes = tokenizer.model.encode(clip)
    assert torch.equal(codes, torch.cat([encode(peer, chunk) for chunk in clip.split(4, dim=1)], dim=1))
    assert not torch.equal(codes, whole.encode(clip))
    chunks = torch.cat([peer.decode(latent) for latent in codes.split(1, dim=1)], dim=1)
    assert_same_pixels(peer, tokenizer.model.decode(codes), chunks)


def test_an_image_is_the_first_of_four_different_decoded_frames(peer, tokenizer):
    codes = encode(peer, clips(1, 1, 32, 32)[:, 0])
    four = peer.decode(codes.unsqueeze(1))[:, :4]
    assert_same_pixels(peer, tokenizer.model.decode_images(codes), four[:, 0])
    assert all((four[:, 0] - four[:, i]).abs().max() > 1e-3 for i in (1, 2, 3))


def test_frames_of_bytes(peer, tokenizer):
    clip = ((clips(1, 8, 40, 24)[0] + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    pixels = torch.from_numpy(clip).permute(0, 3, 1, 2).unsqueeze(0) / 127.5 - 1
    codes = tokenizer.encode(clip)
    assert np.array_equal(codes, torch.cat([encode(peer, chunk)[0] for chunk in pixels.split(4, dim=1)]).numpy())
    assert np.array_equal(tokenizer.encode_image(clip[0]), encode(peer, pixels[:, 0])[0].numpy())
    decoded = peer.decode(torch.from_numpy(codes[:1]).long().unsqueeze(0))[0].clamp(-1, 1).permute(0, 2, 3, 1)
    assert np.abs(tokenizer.decode(codes)[:4] - ((decoded + 1) * 127.5).numpy()).max() < 0.51


def published(folder, tokenizer, shards=1):
    """The tiny model as Emu3-VisionTokenizer is published, in one file or several."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY_PUBLISHED))
    tensors = {name: tensor.contiguous() for name, tensor in tokenizer.model.state_dict().items()}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    files = {name: f"model-{i % shards}.safetensors" for i, name in enumerate(tensors)}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in tensors if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder


@pytest.mark.parametrize("shards", [1, 3])
def test_a_folder_as_published_loads(tokenizer, tmp_path, shards):
    again = load(published(tmp_path / "Emu3-VisionTokenizer", tokenizer, shards))
    assert again.name == "Emu3-VisionTokenizer"
    assert (again.config, again.fingerprint) == (tokenizer.config, tokenizer.fingerprint)
    clip = np.random.default_rng(0).integers(0, 256, (4, 32, 24, 3), dtype=np.uint8)
    assert np.array_equal(again.encode(clip), tokenizer.encode(clip))


def test_the_tokenizer_inside_a_whole_emu3_model_loads_alone(folder, tokenizer, tmp_path):
    tensors = {f"model.vqmodel.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, tmp_path / "vision.safetensors")
    files = dict.fromkeys(tensors, "vision.safetensors") | {"lm_head.weight": "not-downloaded.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    vision = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "emu3", "vq_config": vision}))
    assert load(tmp_path).fingerprint == tokenizer.fingerprint


def test_a_folder_saved_in_half_precision_is_read_as_float32(peer, folder, tmp_path):
    half = {n: t.half() if t.is_floating_point() else t for n, t in load_file(folder / "model.safetensors").items()}
    save_file(half, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    model = load(tmp_path).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.encoder.conv_in.weight, peer.encoder.conv_in.weight.half().float())


@pytest.mark.parametrize("data", [{"model_type": "emu3"}, {"model_type": "Emu3VisionVQ"}, {"model_type": "emu3_vqgan"}])
def test_fields_left_out_are_emu3s(tmp_path, data):
    (tmp_path / "config.json").write_text(json.dumps(data))
    assert read_config(tmp_path / "config.json") == EMU3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "Emu3"}, "model_type is 'Emu3'"),
        ({"double_z": True}, "double_z is True; only False"),
        ({"in_channels": 1}, "in_channels is 1; only 3"),
        ({"z_channels": 8}, "z_channels 8 and embed_dim 4"),
        ({"ch": 20}, "widths"),
        ({"ch_mult": 4}, "ch_mult is 4; it must be a list"),
        ({"codebook_size": "many"}, "codebook_size is 'many'; it must be a whole number"),
        ({"temporal_downsample_factor": 3}, "temporal_factor 3"),
        ({"model_type": "emu3_vqgan", "hidden_size": 96}, "hidden_size, the width of attention, is 96"),
        ({"ch_mult": [1, 1, 2, 4]}, "does not fit its configuration; .* of another shape"),
        ({"num_res_blocks": 2}, "missing"),
        ({"attn_resolutions": []}, "unexpected"),
    ],
)
def test_what_cannot_be_loaded_is_named(tokenizer, tmp_path, change, message):
    place = published(tmp_path / "folder", tokenizer)
    (place / "config.json").write_text(json.dumps({**TINY_PUBLISHED, **change}))
    with pytest.raises(WeightsError, match=message):
        load(place)


def test_broken_folders_raise(tokenizer, tmp_path):
    with pytest.raises(WeightsError, match=r"config\.json is missing"):
        load(tmp_path)
    place = published(tmp_path / "folder", tokenizer, shards=2)
    (place / "model-1.safetensors").write_bytes(b"\x80\x04cpickle")
    with pytest.raises(WeightsError, match="damaged or not a safetensors file"):
        load(place)
    (place / "model-1.safetensors").unlink()
    with pytest.raises(WeightsError, match="is missing: the download is incomplete"):
        load(place)
    (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../../secret.safetensors"}}))
    with pytest.raises(WeightsError, match="of the same folder"):
        load(place)
    (place / "model.safetensors.index.json").unlink()
    (place / "pytorch_model.bin").write_bytes(b"\x80\x04cpickle")
    with pytest.raises(WeightsError, match="never loaded"):
        load(place)


def test_the_card_is_of_a_file_of_these_tensors(monkeypatch, tmp_path):
    with torch.device("meta"):
        tensors = MoVQ(EMU3).state_dict()
    assert weights.cards()[NAME].bytes == file_size(tensors)
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=f"reelmill models pull {NAME}"):
        load(NAME)


def test_the_pulled_card_loads(monkeypatch, tokenizer, tmp_path):
    file = published(tmp_path / "folder", tokenizer) / "model.safetensors"
    monkeypatch.setattr("reelmill.tokenize.vision.published.EMU3", tokenizer.config)
    monkeypatch.setattr(weights, "path", lambda name: file)
    again = load(NAME)
    assert (again.name, again.fingerprint) == (NAME, tokenizer.fingerprint)


def file_size(tensors):
    """Bytes of a safetensors file as transformers writes it: integers before floats, then by name."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].is_floating_point(), item[0])):
        start, end = end, end + tensor.numel() * tensor.element_size()
        kind = "F32" if tensor.is_floating_point() else "I64"
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + length + -length % 8 + end
