"""What two ranks take of host memory while they draw, save and load a decoder, with the code of any size.

Each owns half of the weights. Pages of a file that are read through a mapping count too, so reading costs a rank twice
what it reads: once in the mapping and once in its tensors.
"""

import json
import os
import subprocess
import sys

import pytest

SLACK = 20
"""MiB for a tensor or two, of at most 4 each whole, and what the allocator keeps: less than half a rank's weights."""
SCRIPT = """
import json, sys
from pathlib import Path
import torch
import torch.distributed as dist
from reelmill.train import checkpoint
from reelmill.train.model import ModelConfig
from reelmill.train.optimizer import OptimizerConfig, make_optimizer
from reelmill.train.parallel import Layout, ParallelConfig, join_ranks, sharded_decoder
from reelmill.train.saver import CheckpointConfig, Saver

def megabytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))

def growth(work):
    '''What `work` returns, and MiB at its peak above what was held before.'''
    Path("/proc/self/clear_refs").write_text("5")
    before = megabytes("VmRSS")
    made = work()
    return made, megabytes("VmHWM") - before

CONFIG = ModelConfig(vocab_size=2001, hidden=512, layers=8, heads=4, kv_heads=2, mlp=1536)
folder = Path(sys.argv[1])
with join_ranks("cpu") as ranks:
    def built(parallel, seed):
        return sharded_decoder(CONFIG, Layout.of(parallel, CONFIG, 64, ranks), "float32", seed)

    def loaded(parallel):
        model = built(parallel, None)
        checkpoint.load_weights(last / "model", model)
        return model

    def resumed(model):
        optimizer = make_optimizer(model, OptimizerConfig())
        checkpoint.load_optimizer(last / "optimizer", model, optimizer)
        return optimizer

    # A small one first, for what is imported and allocated once.
    CONFIG.layers = 1
    model = built(ParallelConfig(), 0)
    last = folder / "small"
    parts = {"model": dict(model.state_dict())}
    parts["optimizer"] = checkpoint.optimizer_tensors(model, make_optimizer(model, OptimizerConfig()))
    saver = Saver(last, CheckpointConfig(), ranks)
    state = checkpoint.TrainState(step=1, recipe={}, vocabulary={}, tokenizer="", data="", version="")
    last = saver.save(state, parts)
    saver.wait()
    resumed(loaded(ParallelConfig(tensor=2)))

    CONFIG.layers = 8
    found = {}
    model, found["draw"] = growth(lambda: built(ParallelConfig(), 0))
    found["own"] = 4 * sum(parameter.to_local().numel() for parameter in model.parameters()) / 2**20
    parts = {"model": dict(model.state_dict())}
    parts["optimizer"] = checkpoint.optimizer_tensors(model, make_optimizer(model, OptimizerConfig()))
    saver = Saver(folder / "large", CheckpointConfig(), ranks)
    def save():
        path = saver.save(state, parts)
        saver.wait()
        return path
    last, found["save"] = growth(save)
    saver.close()
    del model, parts, saver
    for name, parallel in (("same layout", ParallelConfig()), ("another", ParallelConfig(tensor=2))):
        model, found[f"weights, {name}"] = growth(lambda: loaded(parallel))
        optimizer, found[f"optimizer, {name}"] = growth(lambda: resumed(model))
        del model, optimizer
    told = ranks.gather([json.dumps(found)])
    if ranks.is_first:
        print(json.dumps([json.loads(text) for text in told]))
"""


@pytest.mark.slow
def test_no_rank_holds_the_whole(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    # What is freed goes back to the system at once, so that each growth is its own.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [*torchrun, str(tmp_path / "script.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    for found in json.loads(done.stdout.splitlines()[-1]):
        own = found.pop("own")
        assert own > 50
        state = 2 * own  # AdamW's
        bounds = {"draw": own, "save": own + state}
        for layout in ("same layout", "another"):
            bounds |= {f"weights, {layout}": 2 * own, f"optimizer, {layout}": 2 * state}
        assert found.keys() == bounds.keys()
        for name, bound in bounds.items():
            assert found[name] < bound + SLACK, (name, found)
