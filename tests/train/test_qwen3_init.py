"""Emu3.5 begins with Qwen3's weights: the rows of text are Qwen3's, the others new, and logits of text the same."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from reelmill.compat import torchvision
from reelmill.config import to_toml
from reelmill.errors import ConfigError
from reelmill.tokenize.documents import Visual, interleaved_document, task_document
from reelmill.tokenize.layout import EMU3_5
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import checkpoint
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.hub import export_model, read_config, read_model
from reelmill.train.model import ModelConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.run import train

torchvision()  # transformers imports it

import transformers  # noqa: E402

VOCAB, FINGERPRINT = Vocabulary("qwen", 600, EMU3_5), "ab" * 32
ROWS = 151_646
MODEL = ModelConfig(
    hidden=16, layers=2, heads=2, kv_heads=1, head_dim=12, mlp=24, qk_norm=True, norm_eps=1e-6, dropout=0.0,
    attention_dropout=0.0,
)  # fmt: skip
SCRIPT = """
import sys, tomllib
from pathlib import Path
from reelmill.config import from_dict
from reelmill.train.config import TrainConfig
from reelmill.train.run import train

recipe, data, out = map(Path, sys.argv[1:])
train(from_dict(TrainConfig, tomllib.loads(recipe.read_text())), [data], out)
"""


def write_data(out, vocab):
    codes = np.arange(6).reshape(2, 3)
    story = task_document(vocab, "story", "A cat", ["One day.", Visual(codes), "The end."])
    plain = interleaved_document(vocab, ["a cat", Visual(codes + 7)])
    known = {"item_id": "i", "fingerprint": FINGERPRINT}
    rows = [
        document_row(vocab, story.tokens, answers=story.answers, sample_id="a", **known),
        *(document_row(vocab, plain, sample_id=f"b{n}", **known) for n in range(3)),
    ]
    (out / "tokens" / FINGERPRINT[:12]).mkdir(parents=True)
    write_shard(out / "tokens" / FINGERPRINT[:12] / "unit-000000.parquet", rows, vocab, FINGERPRINT)
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), VOCAB)


def qwen3(folder, *, tied=False):
    """A Qwen3 model of transformers with random weights, saved; and itself."""
    config = transformers.Qwen3Config(
        vocab_size=151_936, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=12, rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=tied,
    )  # fmt: skip
    torch.manual_seed(5)
    model = transformers.Qwen3ForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.2)
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen3")
    return folder, qwen3(folder)


def config_of(init, **changes):
    return TrainConfig(
        model=MODEL, init=str(init), data=DataConfig(context=96, batch_rows=2, heldout=0.0), steps=1, seed=3,
        optimizer=OptimizerConfig(lr=1e-30, weight_decay=0.0), precision="float32", device="cpu", **changes,
    )  # fmt: skip


def logits(model, tokens):
    return model.lm_head(model(tokens, torch.arange(tokens.shape[1]).expand_as(tokens)))


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_logits_of_text_are_qwen3s_and_the_new_rows_are_those_of_a_fresh_run(tied, begun, data, tmp_path):
    folder, theirs = (tmp_path / "tied", qwen3(tmp_path / "tied", tied=True)) if tied else begun
    messages = []
    last = train(config_of(folder), [data], tmp_path / "run", log_fn=messages.append)
    ours = checkpoint.load_decoder(last)[0]
    (said,) = [line for line in messages if "begins with the weights" in line]
    assert "151,646 ids of the vocabulary are its own (text, PAD, <|im_start|>, <|im_end|>), 808 are new" in said
    assert said.endswith("begin at random: <|extra_0|> to EOI, and all codes")
    text = torch.randint(0, ROWS, (2, 23), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(
            logits(ours, text)[..., :ROWS], theirs(text).logits[..., :ROWS], rtol=1e-4, atol=1e-4
        )
    fresh = checkpoint.load_decoder(train(config_of(""), [data], tmp_path / "fresh", log_fn=lambda _: None))[0]
    for name in ("embed_tokens.weight", "lm_head.weight"):
        assert len(ours.state_dict()[name]) == VOCAB.size == 152_454
        assert torch.equal(ours.state_dict()[name][ROWS:], fresh.state_dict()[name][ROWS:]), name


def test_other_sizes_and_other_text_are_refused_and_sizes_may_be_its_own(begun, data, tmp_path):
    folder, _ = begun
    with pytest.raises(ConfigError, match=r"its sizes are others: mlp 24 \(model has 32\)"):
        train(replace(config_of(folder), model=replace(MODEL, mlp=32)), [data], tmp_path / "a", log_fn=lambda _: None)
    with pytest.raises(ConfigError, match=r"vocab_size 151,936 \(model has 1,067\)"):
        bytes_ = write_data(tmp_path / "bytes", Vocabulary("bytes", 600, EMU3_5))
        train(config_of(folder), [bytes_], tmp_path / "b", log_fn=lambda _: None)
    other = replace(config_of(folder, sizes="init"), model=replace(MODEL, hidden=64, layers=9))
    model = checkpoint.load_decoder(train(other, [data], tmp_path / "c", log_fn=lambda _: None))[0]
    assert (model.config.hidden, model.config.layers, model.config.vocab_size) == (16, 2, VOCAB.size)


def test_a_folder_for_emu3_5s_released_class_and_for_qwen3s(begun, data, tmp_path):
    """Both hold the same tensors under the same names; what their configurations say differs."""
    model = checkpoint.load_decoder(train(config_of(begun[0]), [data], tmp_path / "run", log_fn=lambda _: None))[0]
    for layout in ("emu3.5", "qwen3"):
        export_model(model, VOCAB, tmp_path / layout, layout=layout, dtype=torch.float32, context=32_768)
    described = json.loads((tmp_path / "emu3.5/config.json").read_text())
    expected = {
        "architectures": ["Emu3ForCausalLM"], "model_type": "Emu3", "head_dim": 12, "vocab_size": VOCAB.size,
        "pad_token_id": 151_643, "bos_token_id": 151_849, "eos_token_id": 151_850, "img_token_id": 151_851,
        "boi_token_id": 151_852, "eoi_token_id": 151_853, "eol_token_id": 151_846, "eof_token_id": 151_847,
        "rope_theta": 1e6, "tie_word_embeddings": False, "max_position_embeddings": 32_768, "attention_dropout": 0.0,
    }  # fmt: skip
    assert {key: described[key] for key in expected} == expected
    again = read_model(tmp_path / "emu3.5")
    assert again.config.qk_norm and read_config(tmp_path / "emu3.5").head_size == 12
    theirs = transformers.Qwen3ForCausalLM.from_pretrained(tmp_path / "qwen3").eval()
    tokens = torch.from_numpy(task_document(VOCAB, "t2i", "a cat", [Visual(np.arange(6).reshape(2, 3))]).tokens)[None]
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens.long()).logits, logits(model, tokens.long()), rtol=1e-4, atol=1e-4)
        assert torch.equal(logits(again, tokens.long()), logits(model, tokens.long()))


@pytest.mark.slow
def test_two_ranks_begin_with_the_same(begun, data, tmp_path):
    config = replace(config_of(begun[0]), steps=2, optimizer=OptimizerConfig(lr=1e-2, warmup_steps=1))
    train(config, [data], tmp_path / "alone", log_fn=lambda _: None)
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "recipe.toml").write_text(to_toml(config))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command = [*torchrun, tmp_path / "script.py", tmp_path / "recipe.toml", data, tmp_path / "two"]
    subprocess.run(command, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    alone, two = (losses_of(tmp_path / name) for name in ("alone", "two"))
    assert two == pytest.approx(alone, rel=1e-5)


def losses_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]
