"""Two gloo ranks under torchrun compute what one process does."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from rounding import assert_near, training_bound

from reelmill.config import to_toml
from reelmill.train import checkpoint
from reelmill.train.parallel import join_ranks
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


def test_on_cuda_a_group_is_bound_to_its_gpu_with_a_time_out_and_a_flight_recorder(monkeypatch):
    """What is asked of torch, up to the group that only a GPU can make."""
    asked, devices = {}, []

    class Made(Exception):
        pass

    def make_group(**options):
        asked.update(options)
        raise Made

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", lambda enabled: asked.update(cudnn=enabled))
    monkeypatch.setattr(dist, "init_process_group", make_group)
    monkeypatch.setenv("LOCAL_RANK", "3")
    names = ("PYTORCH_CUDA_ALLOC_CONF", "TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_DUMP_ON_TIMEOUT")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_FR_BUFFER_SIZE", "77")  # what a user has set stays
    with pytest.raises(Made), join_ranks("cuda", 90.0):
        pass
    gpu = torch.device("cuda", 3)
    assert devices == [gpu]
    assert asked["device_id"] == gpu
    assert asked["timeout"] == timedelta(seconds=90)
    assert asked["backend"] == "cpu:gloo,cuda:nccl"
    assert asked["cudnn"] is False
    assert [os.environ.pop(name) for name in names] == ["expandable_segments:True", "77", "1"]


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
