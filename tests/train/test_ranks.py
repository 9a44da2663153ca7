"""Two gloo ranks under torchrun compute what one process does."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
from rounding import assert_near, training_bound

from reelmill.config import to_toml
from reelmill.train import checkpoint
from reelmill.train.run import train

SCRIPT = """
import sys, tomllib
from pathlib import Path
from reelmill.config import from_dict
from reelmill.train.run import train
from reelmill.train.config import TrainConfig

config = from_dict(TrainConfig, tomllib.loads(Path(sys.argv[1]).read_text()))
train(config, [Path(sys.argv[2])], Path(sys.argv[3]), until=int(sys.argv[4]))
"""


def train_on_two_ranks(config, data, out, folder, until):
    (folder / "script.py").write_text(textwrap.dedent(SCRIPT))
    (folder / "recipe.toml").write_text(to_toml(config))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run(
        [*torchrun, folder / "script.py", folder / "recipe.toml", data, out, str(until)],
        check=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def losses_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line], [
        line["validation"] for line in lines if "loss" not in line
    ]


@pytest.mark.slow
def test_two_ranks_equal_one_and_resume_each_others_checkpoints(run_folder, toy_config, tmp_path):
    config = replace(toy_config, model=replace(toy_config.model, dropout=0.0, attention_dropout=0.0))
    alone = train(config, [run_folder], tmp_path / "alone", log_fn=lambda _: None)
    train_on_two_ranks(config, run_folder, tmp_path / "mixed", tmp_path, until=2)
    shards = sorted(path.name for path in (tmp_path / "mixed/checkpoints/step-000002/model").iterdir())
    assert len(shards) == 2, "each rank writes its own"
    mixed = train(config, [run_folder], tmp_path / "mixed", log_fn=lambda _: None)

    losses, validations = losses_of(tmp_path / "alone")
    mixed_losses, mixed_validations = losses_of(tmp_path / "mixed")
    expected, vocab, _ = checkpoint.load_decoder(alone)
    bound = training_bound(config, vocab.size)
    assert mixed_losses == pytest.approx(losses, rel=bound)
    for one, other in zip(validations, mixed_validations, strict=True):
        assert other == pytest.approx(one, rel=bound)
    found = checkpoint.load_decoder(mixed)[0].state_dict()
    for name, tensor in expected.state_dict().items():
        assert_near(found[name], tensor, bound, name)
