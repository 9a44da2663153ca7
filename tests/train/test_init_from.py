"""Runs that begin with the weights of another: a checkpoint, a run, or a folder in Hugging Face's layout."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from rounding import training_bound

from reelmill.config import from_dict, to_toml
from reelmill.errors import ConfigError
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import checkpoint
from reelmill.train.check_data import check_data
from reelmill.train.hub import export_model
from reelmill.train.init_from import with_init_sizes
from reelmill.train.model import ModelConfig
from reelmill.train.provenance import Training
from reelmill.train.recipes.quality import qft
from reelmill.train.run import train

SCRIPT = """
import sys, tomllib
from pathlib import Path
from reelmill.config import from_dict
from reelmill.train.run import train
from reelmill.train.config import TrainConfig

recipe, data, out = map(Path, sys.argv[1:])
train(from_dict(TrainConfig, tomllib.loads(recipe.read_text())), [data], out)
"""


@pytest.fixture(scope="module")
def first_stage(run_folder, tmp_path_factory):
    return run_folder, tmp_path_factory.mktemp("runs") / "first"


@pytest.fixture
def trained(first_stage, toy_config):
    """A run of four steps, made once; without dropout."""
    data, out = first_stage
    if not out.exists():
        train(without_dropout(toy_config), [data], out, log_fn=lambda _: None)
    return out


def without_dropout(config):
    return replace(config, model=replace(config.model, dropout=0.0, attention_dropout=0.0))


def begun_with(place, config, data, out, messages):
    """The weights of a run that began with `place` and made one step at a rate of nearly nothing."""
    still = replace(config.optimizer, lr=1e-30, weight_decay=0.0)
    config = replace(without_dropout(config), init=str(place), optimizer=still, steps=1, seed=99)
    return checkpoint.load_decoder(train(config, [data], out, log_fn=messages.append))[0].state_dict()


def test_a_run_begins_with_the_weights_of_a_run_a_checkpoint_or_an_exported_folder(
    trained, toy_config, run_folder, tmp_path
):
    last = checkpoint.find(trained)
    model, vocab, _ = checkpoint.load_decoder(last)
    export_model(model, vocab, tmp_path / "folder", dtype=torch.float32)
    for number, place in enumerate((trained, last, tmp_path / "folder")):
        messages = []
        found = begun_with(place, toy_config, run_folder, tmp_path / f"{number}", messages)
        assert any("begins with the weights of" in line for line in messages)
        for name, weight in model.state_dict().items():
            assert torch.equal(found[name], weight), name


@pytest.mark.slow
def test_two_ranks_begin_with_the_weights_of_a_folder(trained, toy_config, run_folder, tmp_path):
    model, vocab, _ = checkpoint.load_decoder(checkpoint.find(trained))
    export_model(model, vocab, tmp_path / "folder", dtype=torch.float32, shard_bytes=20_000)
    config = replace(without_dropout(toy_config), init=str(tmp_path / "folder"), seed=7)
    train(config, [run_folder], tmp_path / "alone", log_fn=lambda _: None)
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "recipe.toml").write_text(to_toml(config))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run(
        [*torchrun, tmp_path / "script.py", tmp_path / "recipe.toml", run_folder, tmp_path / "two"],
        check=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    bound = training_bound(config, vocab.size)
    assert losses_of(tmp_path / "two") == pytest.approx(losses_of(tmp_path / "alone"), rel=bound)


def losses_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_a_resumed_run_goes_on_and_does_not_begin_again(trained, toy_config, run_folder, tmp_path):
    config = replace(without_dropout(toy_config), init=str(trained))
    train(config, [run_folder], tmp_path / "stopped", until=2, log_fn=lambda _: None)
    messages = []
    train(config, [run_folder], tmp_path / "stopped", log_fn=messages.append)
    assert not any("begins with" in line for line in messages)
    train(config, [run_folder], tmp_path / "whole", log_fn=lambda _: None)
    assert losses_of(tmp_path / "stopped") == losses_of(tmp_path / "whole")


def test_weights_of_another_model_are_refused(trained, toy_config, run_folder, tmp_path):
    # 2^40: refused before it is built, for no machine could.
    wider = replace(toy_config, init=str(trained), model=replace(toy_config.model, mlp=1 << 40))
    with pytest.raises(ConfigError, match=r"its sizes are others: mlp 24 \(model has 1,099,511,627,776\)"):
        train(wider, [run_folder], tmp_path, log_fn=lambda _: None)


def test_a_stage_after_pretraining_has_the_sizes_of_its_weights(trained, toy_config, run_folder, tmp_path):
    """Recipe `qft` says 8 billion parameters; it trains what it begins with, and its run knows the sizes then."""
    stage, messages = replace(qft(), init=str(trained), device="cpu", precision="float32", steps=2), []
    stage.data = replace(stage.data, context=64, batch_rows=1, heldout=0.2)
    last = train(stage, [run_folder], tmp_path / "qft", until=1, log_fn=messages.append)
    sizes = from_dict(ModelConfig, checkpoint.read_state(last).recipe["model"])
    theirs = from_dict(ModelConfig, checkpoint.read_state(checkpoint.find(trained)).recipe["model"])
    assert sizes == replace(theirs, dropout=stage.model.dropout, attention_dropout=stage.model.attention_dropout)
    assert any(line.startswith(f"sizes of {checkpoint.find(trained)}: vocab_size ") for line in messages)
    assert "30 documents are sound" in check_data(stage, [run_folder], None)
    gone = replace(stage, init=str(tmp_path / "gone"))
    assert with_init_sizes(gone, tmp_path / "qft")[0].model == sizes
    assert with_init_sizes(replace(stage, init=""), tmp_path / "none")[0].model == qft().model
    with pytest.raises(ConfigError, match="--set init=FOLDER"):
        with_init_sizes(replace(stage, init=str(tmp_path)))


def test_weights_of_another_vocabulary_or_tokenizer_are_refused(trained, toy_config, run_folder, tmp_path):
    last = checkpoint.find(trained)
    written = (last / "state.json").read_text()
    state = json.loads(written)
    for key, value in (("tokenizer", "cd" * 32), ("vocabulary", Vocabulary("bytes", 65).to_json())):
        (last / "state.json").write_text(json.dumps({**state, key: value}))
        with pytest.raises(ConfigError, match="its ids mean something else"):
            train(replace(toy_config, init=str(trained)), [run_folder], tmp_path, log_fn=lambda _: None)
    (last / "state.json").write_text(written)


def test_an_export_of_another_tokenizer_is_refused(trained, toy_config, run_folder, tmp_path):
    last = checkpoint.find(trained)
    model, vocab, _ = checkpoint.load_decoder(last)
    for tokenizer, name in (("cd" * 32, "other"), (Training.of(last).tokenizer, "same")):
        training = replace(Training.of(last), tokenizer=tokenizer, learned=["x2i"])
        export_model(model, vocab, tmp_path / name, training=training)
    begun = replace(without_dropout(toy_config), init=str(tmp_path / "same"), steps=1)
    made = train(begun, [run_folder], tmp_path / "run", log_fn=lambda _: None)
    assert set(Training.of(made).learned) == {"x2i", *Training.of(last).learned}
    with pytest.raises(ConfigError, match=r"with the vision tokenizer cdcdcdcdcdcd.*its ids mean something else"):
        train(replace(begun, init=str(tmp_path / "other")), [run_folder], tmp_path / "run2", log_fn=lambda _: None)


def test_a_place_without_weights_is_refused_and_another_theta_is_said(trained, toy_config, run_folder, tmp_path):
    with pytest.raises(ConfigError, match="--set init=FOLDER"):
        train(replace(toy_config, init=str(tmp_path)), [run_folder], tmp_path / "run", log_fn=lambda _: None)
    messages = []
    longer = replace(toy_config, model=replace(toy_config.model, rope_theta=5e6))
    begun_with(trained, longer, run_folder, tmp_path / "longer", messages)
    assert any("rope_theta 1000000.0 there, 5000000.0 here" in line for line in messages)
