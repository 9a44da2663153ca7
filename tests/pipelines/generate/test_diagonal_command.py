"""From a checkpoint to one that draws by diagonals, on the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from toy_run import reelmill, toy_run

from reelmill.config import from_dict
from reelmill.errors import ConfigError
from reelmill.eval.generation.decoding import learned_by
from reelmill.eval.generation.media_files import read_settings
from reelmill.eval.preference import Candidates
from reelmill.train import checkpoint
from reelmill.train.config import TrainConfig
from reelmill.train.run import train

SIZE = ("--area", 16 * 24, "--ratio", "3:2")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder with `first/toy` (a checkpoint) and `diagonal` (adapted)."""
    out = tmp_path_factory.mktemp("diagonal")
    last = checkpoint.latest(toy_run(out / "first") / "checkpoints")
    config = from_dict(TrainConfig, checkpoint.read_state(last).recipe)
    model = replace(config.model, dropout=0.0, attention_dropout=0.0, vertical_layers=1)
    config = replace(config, objective="diagonal", init=str(last), model=model, steps=2)
    train(config, [out / "first"], out / "diagonal", log_fn=lambda _: None)
    return out


def test_a_picture_takes_as_many_passes_as_it_has_diagonals_and_reproduces(made, tmp_path):
    asked = ("--prompt", "six codes", *SIZE, "--decode", "diagonal", "--seed", 7, "--guidance", 2, "--json")
    found = []
    for name in ("x", "y"):
        said = reelmill("generate", made / "diagonal", *asked, "--out", tmp_path / f"{name}.png")
        found += [json.loads(line) for line in said.splitlines() if line[:1] == "{"]
    # Two rows of a prompt are read, then 2 + 3 - 1 passes over the picture: 2 rows of 3 codes, EOLs, EOF, EOI, EOS.
    assert (found[0]["passes"], found[0]["tokens"]) == (2 + 4, 2 * 4 + 3)
    assert read_settings(tmp_path / "x.png")["decode"] == "diagonal"
    assert np.array_equal(Image.open(tmp_path / "x.png"), Image.open(tmp_path / "y.png"))


def test_a_checkpoint_says_what_it_has_learned(made, tmp_path):
    adapted = checkpoint.latest(made / "diagonal/checkpoints")
    first = checkpoint.latest(made / "first/toy/checkpoints")
    assert (learned_by(adapted), learned_by(first)) == (("diagonal",), ())
    refused = (
        r"has not learned to decode by diagonal; it can do plain, exact-parallel, rows, auto. `reelmill train diag"
    )
    for command in (
        ("generate", first, "--prompt", "a", "--out", tmp_path / "x.png"),
        ("prefer", "sample", first, "--prompt", "a", "--out", tmp_path / "c"),
        ("serve", first, "--port", 0),
    ):
        with pytest.raises(ConfigError, match=refused):
            reelmill(*command, "--decode", "diagonal")
    with pytest.raises(ConfigError, match=r"has not learned to decode by dida; it can do plain, .*, diagonal, auto"):
        reelmill("generate", adapted, "--prompt", "a", "--decode", "dida", "--out", tmp_path / "x.png")


def test_it_decodes_otherwise_too_and_its_candidates_say_how(made, tmp_path):
    for decode in ("plain", "exact-parallel"):
        reelmill("generate", made / "diagonal", "--prompt", "a", *SIZE, "--decode", decode, "--out", tmp_path / "x.png")
    asked = ("--prompt", "a", "--count", 2, *SIZE, "--decode", "diagonal", "--out", tmp_path / "c")
    reelmill("prefer", "sample", made / "diagonal", *asked)
    assert Candidates(tmp_path / "c").settings["decode"] == "diagonal"
