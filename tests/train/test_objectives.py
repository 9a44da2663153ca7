"""Objectives: of reelmill's own and of anybody's, each with its settings in a recipe."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reelmill.config import from_dict, override, to_dict, to_toml
from reelmill.errors import ConfigError
from reelmill.pipelines.cli import app
from reelmill.train import checkpoint
from reelmill.train.config import TrainConfig
from reelmill.train.objectives import OBJECTIVES, objective_class
from reelmill.train.run import train

CONTRIBUTING = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
quiet = {"log_fn": lambda _: None}


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The objective of CONTRIBUTING, importable as `my_objectives`."""
    blocks = re.findall(r"```python\n(.*?)```", CONTRIBUTING.read_text(), re.DOTALL)
    (source,) = [block for block in blocks if "class Focal" in block]
    (tmp_path / "my_objectives.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_objectives:Focal"
    sys.modules.pop("my_objectives", None)


def losses(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_an_objective_of_ones_own_trains_with_its_settings(example, run_folder, toy_config, tmp_path):
    plain = replace(toy_config, model=replace(toy_config.model, dropout=0.0, attention_dropout=0.0))
    config = replace(plain, objective=example)
    assert to_dict(config)["focal"] == {"gamma": 2.0}
    assert from_dict(TrainConfig, to_dict(config)) == config
    messages = []
    train(config, [run_folder], tmp_path / "focal", log_fn=messages.append)
    assert "[focal]" in (tmp_path / "focal/recipe.toml").read_text()
    assert any(message.startswith("step 4/4") and "vision" in message for message in messages)
    train(override(config, ["focal.gamma=0.0"]), [run_folder], tmp_path / "zero", **quiet)
    train(plain, [run_folder], tmp_path / "plain", **quiet)
    assert losses(tmp_path / "zero") == losses(tmp_path / "plain"), "gamma 0 is the next token's own loss"
    assert losses(tmp_path / "focal")[0] < losses(tmp_path / "plain")[0]
    with pytest.raises(ConfigError, match=r"focal\.gamma: 2\.0 -> 1\.0"):
        train(override(config, ["focal.gamma=1.0"]), [run_folder], tmp_path / "focal", **quiet)


def test_the_command_knows_it_too(example, run_folder, toy_config, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(to_toml(replace(toy_config, objective=example)))
    command = ["train", str(recipe), "--data", str(run_folder), "--selection", "all"]
    done = CliRunner().invoke(app, [*command, "--check-data"])
    assert "30 documents are sound" in done.output
    done = CliRunner().invoke(app, [*command, "--dry-run", "--gpus", "1", "--set", "focal.gama=1"])
    assert isinstance(done.exception, ConfigError)
    assert "unknown key 'focal.gama'; did you mean 'gamma'?" in str(done.exception)


def test_a_name_or_a_table_that_does_not_exist_is_refused(toy_config):
    with pytest.raises(ConfigError, match="no objective is called 'preferences'; did you mean 'preference'"):
        replace(toy_config, objective="preferences")
    with pytest.raises(ConfigError, match=r"is not a reelmill\.train.objectives\.interface\.Objective"):
        replace(toy_config, objective="reelmill.train.model:Decoder")
    with pytest.raises(ConfigError, match="unknown key 'optimiser'; did you mean 'optimizer'"):
        override(toy_config, ["optimiser.lr=1"])
    with pytest.raises(ConfigError, match="unknown key 'stepz'; did you mean 'steps'"):
        override(toy_config, ["stepz=1"])
    with pytest.raises(ConfigError, match=r"unknown key 'preference.betta'; did you mean 'beta'"):
        override(toy_config, ["preference.betta=1"])


def test_names_in_the_registry_are_those_of_the_tables():
    assert {name: objective_class(name).name for name in OBJECTIVES} == {name: name for name in OBJECTIVES}


def test_tables_of_other_objectives_are_left_out(run_folder, toy_config, tmp_path):
    """A checkpoint of an earlier version has [preference] whatever its objective is."""
    table = {**to_dict(toy_config), "preference": {"beta": 0.3}}
    assert from_dict(TrainConfig, table) == toy_config
    last = train(toy_config, [run_folder], tmp_path, until=2, **quiet)
    state = json.loads((last / "state.json").read_text())
    state["recipe"]["preference"] = {"beta": 0.1, "loss": "dpo"}
    (last / "state.json").write_text(json.dumps(state))
    assert train(from_dict(TrainConfig, table), [run_folder], tmp_path, **quiet).name == "step-000004"


def test_settings_that_a_checkpoint_does_not_know_count_as_their_defaults(toy_config, tmp_path):
    config = replace(toy_config, objective="preference")
    recipe = to_dict(config)
    del recipe["preference"]["gamma"]
    state = checkpoint.TrainState(step=1, recipe=recipe, vocabulary="", tokenizer="", data="", version="")
    defaults = TrainConfig(objective="preference")
    checkpoint.check_same_run(state, config, defaults, "", tmp_path)
    with pytest.raises(ConfigError, match=r"preference\.gamma: 0\.5 -> 0\.7"):
        changed = override(config, ["preference.gamma=0.7"])
        checkpoint.check_same_run(state, changed, defaults, "", tmp_path)
