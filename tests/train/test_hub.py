"""Hugging Face's layout: the same logits in transformers' classes and here, both ways, whole and in shards."""

import json

import pytest
import torch
from rounding import assert_near, decoder_sums, rounding
from safetensors.torch import load_file, save_file

from reelmill.compat import torchvision
from reelmill.errors import ConfigError, WeightsError
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.hub import INDEX, export_model, layout_of, read_config, read_model
from reelmill.train.model import Decoder, ModelConfig

torchvision()  # transformers imports it, which fails beside a CPU build of torch unless this came first

import transformers  # noqa: E402

VOCAB = Vocabulary(text="bytes", codes=64)
SIZES = {"vocab_size": VOCAB.size, "hidden": 32, "layers": 2, "heads": 4, "kv_heads": 2, "mlp": 48, "init_std": 0.2}
MODELS = {
    "emu3": ModelConfig(**SIZES),
    "llama": ModelConfig(**SIZES, head_dim=16, rope_theta=10_000.0),
    "qwen3": ModelConfig(**SIZES, head_dim=16, qk_norm=True, norm_eps=1e-6),
}
CLASSES = {
    "emu3": transformers.Emu3ForCausalLM,
    "llama": transformers.LlamaForCausalLM,
    "qwen3": transformers.Qwen3ForCausalLM,
}


def decoder(config):
    torch.manual_seed(0)
    model = Decoder(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.2)
    return model


def logits(model, tokens):
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    return model.lm_head(model(tokens, positions))


def bound(model, tokens):
    return rounding(torch.float32, decoder_sums(model.config, VOCAB.size, tokens.shape[1]))


@pytest.fixture
def tokens():
    return torch.randint(0, VOCAB.size, (2, 37), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layout", MODELS)
def test_exported_models_give_the_same_logits_in_transformers(layout, tokens, tmp_path):
    model = decoder(MODELS[layout])
    assert layout_of(model.config) == layout
    assert export_model(model, VOCAB, tmp_path, dtype=torch.float32, shard_bytes=20_000) == layout
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    theirs = CLASSES[layout].from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert_near(theirs(tokens).logits, logits(model, tokens), bound(model, tokens))
    assert theirs.config.eos_token_id == VOCAB.eos and theirs.config.pad_token_id == VOCAB.pad


@pytest.mark.parametrize("layout", MODELS)
def test_models_of_transformers_give_the_same_logits_here(layout, tokens, tmp_path):
    export_model(decoder(MODELS[layout]), VOCAB, tmp_path / "sizes", dtype=torch.float32)
    config = transformers.AutoConfig.from_pretrained(tmp_path / "sizes")
    torch.manual_seed(7)
    theirs = CLASSES[layout](config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = read_model(tmp_path / "theirs").eval()
    with torch.no_grad():
        assert_near(logits(ours, tokens), theirs(tokens).logits, bound(ours, tokens))


@pytest.mark.parametrize("layout", MODELS)
def test_a_round_trip_keeps_every_weight_and_size(layout, tmp_path):
    model = decoder(MODELS[layout])
    export_model(model, VOCAB, tmp_path, dtype=torch.float32, shard_bytes=30_000)
    again = read_model(tmp_path)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    kept = ("vocab_size", "hidden", "layers", "heads", "kv_heads", "head_size", "mlp", "qk_norm", "rope_theta")
    assert all(getattr(again.config, field) == getattr(model.config, field) for field in kept)


def test_a_whole_emu3_model_of_transformers_gives_its_decoder(tokens, tmp_path):
    text = {
        "vocab_size": VOCAB.size, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 48, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    vision = {"codebook_size": 64, "base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1}
    names = {"<image>": 1, "<|extra_200|>": 2, "<|visual token 000000|>": 3}
    config = transformers.Emu3Config(
        text_config=text, vq_config={**vision, "attn_resolutions": [], "hidden_size": 32}, vocabulary_map=names
    )
    theirs = transformers.Emu3ForConditionalGeneration(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = read_model(tmp_path).eval()
    with torch.no_grad():
        assert_near(logits(ours, tokens), theirs(tokens).logits, bound(ours, tokens))


def test_a_layout_that_cannot_say_what_the_model_is_raises(tmp_path):
    with pytest.raises(ConfigError, match="use qwen3"):
        export_model(decoder(MODELS["qwen3"]), VOCAB, tmp_path, layout="emu3")
    with pytest.raises(ConfigError, match="use llama"):
        export_model(decoder(MODELS["llama"]), VOCAB, tmp_path, layout="emu3")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "model_type 'bert'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type is 'yarn'"),
        ({"hidden_size": 64}, "does not fit"),
    ],
)
def test_models_that_ours_cannot_be_raise(tmp_path, change, message):
    export_model(decoder(MODELS["llama"]), VOCAB, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(WeightsError, match=message):
        read_model(tmp_path)


def test_missing_weights_raise(tmp_path):
    export_model(decoder(MODELS["llama"]), VOCAB, tmp_path, shard_bytes=20_000)
    gone = sorted(tmp_path.glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(WeightsError, match="is missing"):
        read_model(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if file != gone.name}
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="lacks"):
        read_model(tmp_path)
    with pytest.raises(WeightsError, match=r"config\.json"):
        read_config(tmp_path / "nowhere")


def rewritten(folder, change):
    """The single weight file of a folder with its tensors changed."""
    path = folder / "model-00001-of-00001.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(index | {"weight_map": dict.fromkeys(tensors, path.name)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update({"model.norm.weight": torch.ones(1)}), r"model.norm.weight is \[1\] and does not fit .*32"),
        (lambda t: t.update({"model.layers.2.mlp.up_proj.weight": torch.ones(2)}), "has spare weights: 1 .*layers.2"),
        (lambda t: t.pop("model.layers.1.mlp.up_proj.weight"), "lacks 1 .*layers.1.mlp.up_proj"),
    ],
)
def test_weights_that_would_be_broadcast_ignored_or_missed_raise(tmp_path, change, message):
    export_model(decoder(MODELS["llama"]), VOCAB, tmp_path)
    rewritten(tmp_path, change)
    with pytest.raises(WeightsError, match=message):
        read_model(tmp_path)


def test_a_damaged_file_raises(tmp_path):
    export_model(decoder(MODELS["llama"]), VOCAB, tmp_path)
    path = tmp_path / "model-00001-of-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="is damaged"):
        read_model(tmp_path)


def test_tied_embeddings_and_stored_angles_are_understood(tmp_path):
    export_model(decoder(MODELS["llama"]), VOCAB, tmp_path)

    def tie(tensors):
        del tensors["lm_head.weight"]
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)

    rewritten(tmp_path, tie)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    model = read_model(tmp_path)
    assert torch.equal(model.lm_head.weight, model.embed_tokens.weight)
