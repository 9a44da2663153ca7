"""A run goes on exactly, killed or on another number of ranks."""

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from rounding import training_bound

from reelmill.config import to_toml
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import checkpoint
from reelmill.train.data.loader import Loader
from reelmill.train.run import train

# Notes each row that a rank is given: a line {"step": ..., "rows": [digests]} a step and rank.
NOTING = """
import hashlib, json, sys, tomllib
from pathlib import Path
from reelmill.config import from_dict
from reelmill.train.data.loader import Loader
from reelmill.train.run import train
from reelmill.train.config import TrainConfig

recipe, out, until, *data = sys.argv[1:]
micro_batches = Loader.micro_batches

def noted(self, step, rank):
    batches = micro_batches(self, step, rank)
    rows = [[getattr(b, n)[r].tobytes() for n in ("tokens", "targets", "positions", "weights")]
            for b in batches for r in range(len(b.tokens)) if (b.kinds[r] >= 0).any()]
    digests = [hashlib.sha256(b"".join(row)).hexdigest() for row in rows]
    with (Path(out) / f"rows-{rank}.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "rows": digests}) + "\\n")
    return batches

Loader.micro_batches = noted
config = from_dict(TrainConfig, tomllib.loads(Path(recipe).read_text()))
train(config, [Path(folder) for folder in data], Path(out), until=int(until))
"""


@pytest.fixture
def config(toy_config):
    data = replace(toy_config.data, batch_rows=10, caption_drop=0.2, shares=[0.6, 0.4], shuffle_mb=0.006)
    model = replace(toy_config.model, dropout=0.0, attention_dropout=0.0)
    return replace(toy_config, data=data, model=model, steps=9, validate_every=100)


def losses(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


@pytest.mark.slow
def test_one_rank_two_ranks_one_rank_see_the_rows_of_an_undisturbed_run(run_folder, config, tmp_path):
    folders = [run_folder, run_folder]
    (tmp_path / "script.py").write_text(NOTING)
    (tmp_path / "recipe.toml").write_text(to_toml(config))
    alone, mixed = tmp_path / "alone", tmp_path / "mixed"
    train(config, folders, alone, log_fn=lambda _: None)
    train(config, folders, mixed, until=3, log_fn=lambda _: None)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run(
        [*torchrun, tmp_path / "script.py", tmp_path / "recipe.toml", mixed, "6", *folders],
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    train(config, folders, mixed, log_fn=lambda _: None)
    assert losses(mixed) == pytest.approx(losses(alone), rel=training_bound(config, Vocabulary("bytes", 64).size))
    assert sorted(losses(mixed)) == list(range(9))

    seen = {}
    for rank in range(2):
        for line in (mixed / f"rows-{rank}.jsonl").read_text().splitlines():
            step, rows = json.loads(line).values()
            seen.setdefault(step, []).extend(rows)
    corpus, training = opened(folders, config)
    loader = Loader(corpus, training, config.data, config.seed)
    assert {loader.place(step)[0] for step in seen} == {0, 1}, "the two ranks went over the end of an epoch"
    for step, rows in seen.items():
        batches = loader.micro_batches(step, 0)
        names = ("tokens", "targets", "positions", "weights")
        expected = [
            hashlib.sha256(b"".join(getattr(b, name)[r].tobytes() for name in names)).hexdigest()
            for b in batches
            for r in range(len(b.tokens))
        ]
        assert sorted(rows) == sorted(expected)


def opened(folders, config):
    from reelmill.train.data.corpus import Corpus

    corpus = Corpus(folders, None, config.data)
    return corpus, np.flatnonzero(~corpus.heldout)


KILLS = 30


def lines_in(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
def test_a_run_killed_thirty_times_ends_with_the_parameters_of_an_undisturbed_one(run_folder, config, tmp_path):
    config = replace(config, steps=130, checkpoint=replace(config.checkpoint, every=2, keep=2))
    config = replace(config, model=replace(config.model, dropout=0.1, attention_dropout=0.1))
    folders, out, rng = [run_folder, run_folder], tmp_path / "killed", np.random.default_rng(0)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["reelmill.train.run"])
    steps_before_kill = []
    for _ in range(KILLS):
        process = processes.Process(target=train, args=(config, folders, out), kwargs={"log_fn": str})
        enough = lines_in(out / "metrics.jsonl") + int(rng.integers(1, 5))
        process.start()
        while process.is_alive() and lines_in(out / "metrics.jsonl") < enough:
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.06)))  # anywhere in a step or in the writing of a checkpoint
        process.kill()
        process.join()
        assert process.exitcode == -9, "it was to be killed, not to end"
        last = checkpoint.latest(out / "checkpoints")
        steps_before_kill.append(0 if last is None else checkpoint.read_state(last).step)
    assert steps_before_kill[-1] < config.steps
    assert len(set(steps_before_kill)) > 10, "the run went on between the kills"
    killed = train(config, folders, out, log_fn=lambda _: None)
    undisturbed = train(config, folders, tmp_path / "undisturbed", log_fn=lambda _: None)
    one, other = (checkpoint.load_decoder(path)[0].state_dict() for path in (killed, undisturbed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert losses(out) == losses(tmp_path / "undisturbed")
