"""A rank that hangs is found within the time-out; torchrun starts a killed one again, and nothing changes."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from reelmill.config import to_toml
from reelmill.train.parallel import ParallelConfig
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig

TIMEOUT_S = 6.0
SCRIPT = """
import os, signal, sys
from pathlib import Path
from reelmill.config import from_dict, read_toml
from reelmill.train.config import TrainConfig
from reelmill.train.run import train
from reelmill.train.trainer import Trainer

recipe, data, out = sys.argv[1:]
step = Trainer.step

def killed_once(self, number, **options):
    died = Path(out) / "died"
    if number == 3 and self.ranks.rank == 2 and not died.exists():
        self.saver.wait()
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, number, **options)

Trainer.step = killed_once
train(from_dict(TrainConfig, read_toml(Path(recipe))), [Path(data)], Path(out))
"""


def a_rank(rank, port, config, data, out, told):
    """One of two ranks; the second stops in its second step. Puts (kind of the error, message, seconds of waiting)."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    began = []

    def log(line):
        began.append(time.monotonic())
        if rank == 1 and len(began) == 1:
            raise AssertionError("only the first rank logs")

    if rank == 1:
        stop_at_the_second_step()
    try:
        train(config, [data], out, log_fn=log)
    except Exception as error:
        told.put((type(error).__name__, str(error), time.monotonic() - began[-1]))


def stop_at_the_second_step():
    from reelmill.train.trainer import Trainer

    step = Trainer.step

    def stopped(self, number, **options):
        if number == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        return step(self, number, **options)

    Trainer.step = stopped


def test_a_rank_that_hangs_is_found_within_the_time_out(run_folder, toy_config, tmp_path):
    config = replace(toy_config, parallel=ParallelConfig(timeout_s=TIMEOUT_S))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reelmill.train.run", "reelmill.train.trainer"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = context.Queue()
    ranks = [
        context.Process(target=a_rank, args=(rank, port, config, run_folder, tmp_path / "run", told)) for rank in (0, 1)
    ]
    try:
        for rank in ranks:
            rank.start()
        kind, message, waited = told.get(timeout=120)
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    assert kind == "MachineError"
    assert message.startswith(f"another rank has ended or hangs: it did not answer within {TIMEOUT_S:g} s")
    assert waited >= TIMEOUT_S - 1


@pytest.mark.slow
def test_torchrun_starts_a_killed_rank_s_run_again_and_it_goes_on(run_folder, toy_config, tmp_path):
    """One of three ranks is killed before its fourth step; the losses are those of a run that nothing disturbed."""
    data = replace(toy_config.data, batch_rows=6)
    model = replace(toy_config.model, dropout=0.0, attention_dropout=0.0)
    config = replace(toy_config, data=data, model=model, steps=6, checkpoint=CheckpointConfig(every=2))
    (tmp_path / "recipe.toml").write_text(to_toml(config))
    (tmp_path / "script.py").write_text(SCRIPT)
    outs = {}
    for name in ("undisturbed", "killed"):
        outs[name] = out = tmp_path / name
        out.mkdir()
        if name == "undisturbed":
            (out / "died").touch()
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=3", "--standalone"]
        job = [tmp_path / "script.py", tmp_path / "recipe.toml", run_folder, out]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*torchrun, "--max-restarts=1", *map(str, job)], check=True, timeout=600, env=environment)
    undisturbed, killed = (losses(out) for out in outs.values())
    assert killed == undisturbed
    assert len(killed) == 6


def losses(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}
