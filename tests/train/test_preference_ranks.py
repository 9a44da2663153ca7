"""Preference training on two gloo ranks is what it is on one: rows shared out, and one row's positions shared."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rounding import training_bound

from reelmill.config import to_toml
from reelmill.tokenize import documents
from reelmill.tokenize.shards import Footer
from reelmill.tokenize.shards.pairs import pair_row, write_pairs
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.parallel import ParallelConfig
from reelmill.train.run import train

VOCAB = Vocabulary("bytes", 64)
FINGERPRINT = "ab" * 32


def lines_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    names = ("loss", "ntp", "margin", "kl", "accuracy", "vision", "chosen", "rejected")
    validations = [line["validation"] for line in lines if "validation" in line]
    return [[line[name] for name in names] for line in lines if "loss" in line] + [
        [line[name] for name in names] for line in validations
    ]


SCRIPT = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from reelmill.config import from_dict, read_toml
from reelmill.train.run import train
from reelmill.train.config import TrainConfig

dist.init_process_group("gloo")  # once for all cases
for recipe, out in json.loads(sys.argv[2]):
    train(from_dict(TrainConfig, read_toml(Path(recipe))), [Path(sys.argv[1])], Path(out))
dist.destroy_process_group()
"""
CASES = {
    "rows": (ParallelConfig(), "stored"),
    "rows, frozen model": (ParallelConfig(), "model"),
    "positions": (ParallelConfig(context=2), "stored"),
    "tensors": (ParallelConfig(tensor=2), "stored"),
}


def make_pairs(folder):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(14):
        prompt = f"picture {number}"
        sizes = rng.integers(2, 5, (2, 2))
        chosen, rejected = (documents.image_document(VOCAB, rng.integers(0, 64, size), prompt) for size in sizes)
        rows.append(pair_row(prompt, len(prompt) + 2, chosen, rejected))
    write_pairs(folder / "a.parquet", rows, Footer(FINGERPRINT, VOCAB, FINGERPRINT))


@pytest.mark.slow
def test_two_ranks_equal_one_however_they_share_the_work(run_folder, toy_config, tmp_path):
    pairs = tmp_path / "pairs"
    make_pairs(pairs)
    plain = replace(toy_config.model, kv_heads=2, dropout=0.0, attention_dropout=0.0)
    train(replace(toy_config, model=plain, steps=1), [run_folder], tmp_path / "base", log_fn=lambda _: None)
    config = replace(
        toy_config,
        model=plain,
        data=replace(toy_config.data, context=128, batch_rows=4, heldout=0.2, vision_weight=1.0),
        objective="preference",
        init=str(tmp_path / "base"),
    )
    train(config, [pairs], tmp_path / "alone", log_fn=lambda _: None)
    jobs = []
    for name, (parallel, reference) in CASES.items():
        recipe = tmp_path / f"{name}.toml"
        recipe.write_text(
            to_toml(replace(config, parallel=parallel, settings={"preference": {"reference": reference}}))
        )
        jobs.append((str(recipe), str(tmp_path / name)))
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*torchrun, tmp_path / "script.py", pairs, json.dumps(jobs)], check=True, timeout=300, env=environment
    )
    alone = lines_of(tmp_path / "alone")
    assert len(alone) == config.steps + 2
    for name in CASES:
        for one, other in zip(alone, lines_of(tmp_path / name), strict=True):
            largest = max(map(abs, one))  # margin and kl are differences of log-probabilities
            assert other == pytest.approx(one, abs=training_bound(config, VOCAB.size) * largest), name
