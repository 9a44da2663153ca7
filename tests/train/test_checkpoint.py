import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from reelmill.config import to_toml
from reelmill.errors import ConfigError, DataError
from reelmill.train import checkpoint, trainer
from reelmill.train.parallel import decoder
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig

silent = {"log_fn": lambda _: None}
TIMINGS = {"tokens_per_s", "memory_gib", "eta_s", "data_wait", "lag_s"}


def tensors_of(path):
    model, _, _ = checkpoint.load_decoder(path)
    return dict(model.state_dict())


def metrics_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]


@pytest.mark.parametrize("lessons", [0, 1])
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(run_folder, toy_config, tmp_path, lessons):
    data = replace(toy_config.data, lessons=lessons, batch_rows=20)  # two steps an epoch, three with lessons
    toy_config = replace(toy_config, data=data)
    whole = train(toy_config, [run_folder], tmp_path / "whole", **silent)
    train(toy_config, [run_folder], tmp_path / "halves", until=2, **silent)
    assert checkpoint.read_state(checkpoint.latest(tmp_path / "halves/checkpoints")).step == 2
    halves = train(toy_config, [run_folder], tmp_path / "halves", **silent)

    assert whole.name == halves.name == "step-000004"
    one, other = tensors_of(whole), tensors_of(halves)
    assert all(torch.equal(one[name], other[name]) for name in one)
    name = "optimizer/shard-00001-model-00001-of-00001.safetensors"
    one, other = load_file(whole / name), load_file(halves / name)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert metrics_of(tmp_path / "whole") == metrics_of(tmp_path / "halves")
    assert (tmp_path / "whole/checkpoints/step-000002").is_dir()


def test_weights_are_drawn_only_where_no_checkpoint_replaces_them(run_folder, toy_config, tmp_path, monkeypatch):
    drawn = []
    draw = decoder.initialize
    for where in (decoder, trainer):
        monkeypatch.setattr(where, "initialize", lambda model, seed: drawn.append(seed) or draw(model, seed))
    whole = tensors_of(train(toy_config, [run_folder], tmp_path, **silent))
    assert drawn == [0]
    train(replace(toy_config, steps=6), [run_folder], tmp_path, **silent)
    assert drawn == [0]
    for damaged in (tmp_path / "checkpoints").glob("step-*/state.json"):
        damaged.write_text("{")
    again = tensors_of(train(toy_config, [run_folder], tmp_path, **silent))
    assert drawn == [0, 0]
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_training_changes_the_parameters_and_lowers_the_loss(run_folder, toy_config, tmp_path):
    config = replace(toy_config, steps=12, checkpoint=CheckpointConfig(every=6), validate_every=12)
    last = train(config, [run_folder], tmp_path, **silent)
    first, last = tensors_of(tmp_path / "checkpoints/step-000006"), tensors_of(last)
    assert all(not torch.equal(first[name], last[name]) for name in first)
    steps = [line for line in metrics_of(tmp_path) if "loss" in line]
    assert len(steps) == 12
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.5


def test_a_finished_run_does_nothing_more(run_folder, toy_config, tmp_path):
    train(toy_config, [run_folder], tmp_path, **silent)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    train(toy_config, [run_folder], tmp_path, **silent)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_going_on_with_another_recipe_or_other_data_is_refused(run_folder, toy_config, tmp_path):
    train(toy_config, [run_folder], tmp_path, until=1, **silent)
    with pytest.raises(ConfigError, match="seed: 0 -> 1"):
        train(replace(toy_config, seed=1), [run_folder], tmp_path, **silent)
    with pytest.raises(ConfigError, match="the training data"):
        train(toy_config, [run_folder, run_folder], tmp_path, **silent)
    train(replace(toy_config, validate_every=1), [run_folder], tmp_path, **silent)


def test_killed_while_writing_leaves_the_last_complete_checkpoint(run_folder, toy_config, tmp_path):
    """The process dies at the moment of the second checkpoint's rename, everything written but not committed."""
    script = """
import os, pathlib, sys
from reelmill.config import from_dict, read_toml
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig
from reelmill.train.config import TrainConfig

config, data, out = from_dict(TrainConfig, read_toml(pathlib.Path(sys.argv[1]))), *map(pathlib.Path, sys.argv[2:])
rename = pathlib.Path.rename

def killed(self, target):
    if target.name == "step-000004":
        os.kill(os.getpid(), 9)
    return rename(self, target)

pathlib.Path.rename = killed
train(config, [data], out)
"""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(toy_config))
    command = [sys.executable, "-c", script, recipe, run_folder, tmp_path / "out"]
    process = subprocess.run(command, capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    folder = tmp_path / "out/checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["step-000002", "step-000004.tmp"]
    assert checkpoint.latest(folder).name == "step-000002"

    resumed = train(toy_config, [run_folder], tmp_path / "out", **silent)
    undisturbed = train(toy_config, [run_folder], tmp_path / "whole", **silent)
    one, other = tensors_of(resumed), tensors_of(undisturbed)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(folder.glob("*.tmp"))


def test_a_checkpoint_is_not_pickle_and_its_state_is_small(run_folder, toy_config, tmp_path):
    path = train(toy_config, [run_folder], tmp_path, **silent)
    assert {file.suffix for file in path.rglob("*") if file.is_file()} == {".safetensors", ".json"}
    state = json.loads((path / "state.json").read_text())
    position = {key: state[key] for key in ("step", "data")}
    assert len(json.dumps(position)) < 1024
    assert state["recipe"]["model"]["vocab_size"] == 531


def test_loading_what_is_no_checkpoint_says_so(tmp_path):
    with pytest.raises(DataError, match=r"has no state\.json"):
        checkpoint.load_decoder(tmp_path)
    assert checkpoint.latest(tmp_path) is None
