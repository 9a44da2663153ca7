"""Each way to share the work over gloo ranks, and their combinations, trains as one process does."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from rounding import training_bound

from reelmill.config import to_toml
from reelmill.errors import ConfigError
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.attention import Documents
from reelmill.train.context import ContextPart
from reelmill.train.model import ModelConfig
from reelmill.train.parallel import ParallelConfig
from reelmill.train.run import train

VOCAB = Vocabulary("bytes", 64)
SCRIPT = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from reelmill.config import from_dict, read_toml
from reelmill.train.run import train
from reelmill.train.config import TrainConfig

dist.init_process_group("gloo")  # once for all cases
for recipe, data, out, until in json.loads(sys.argv[1]):
    train(from_dict(TrainConfig, read_toml(Path(recipe))), [Path(data)], Path(out), until=until)
dist.destroy_process_group()
"""


@pytest.fixture
def config(toy_config):
    model = replace(toy_config.model, heads=4, kv_heads=2, qk_norm=True, dropout=0.0, attention_dropout=0.0)
    return replace(toy_config, model=model, z_loss=1e-3, validate_every=4)


def train_on(ranks, cases, data, folder):
    """`cases` are (config, out, until), one after the other in one group of ranks."""
    jobs = []
    for number, (config, out, until) in enumerate(cases):
        recipe = folder / f"recipe-{number}.toml"
        recipe.write_text(to_toml(config))
        jobs.append((str(recipe), str(data), str(out), until))
    (folder / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*torchrun, folder / "script.py", json.dumps(jobs)], check=True, timeout=900, env=environment)


def log_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    return {
        "loss": [line["loss"] for line in steps],
        "structure": [line["structure"] for line in steps],
        "grad_norm": [line["grad_norm"] for line in steps],
        "tokens": [line["tokens"] for line in steps],
        "validation": [line["validation"] for line in lines if "validation" in line][-1],
    }


def assert_same(out, expected, config):
    found, bound = log_of(out), training_bound(config, VOCAB.size)
    assert found["tokens"] == expected["tokens"]
    for name in ("loss", "structure", "validation"):
        assert found[name] == pytest.approx(expected[name], rel=bound), (out.name, name)
    assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=bound), out.name


def alone(config, run_folder, out):
    train(config, [run_folder], out, log_fn=lambda _: None)
    return log_of(out)


def test_two_ranks_share_layers_or_rows_and_load_each_others_checkpoints(run_folder, config, tmp_path):
    """FSDP for two steps, then tensor parallelism for one, then a single process; and context parallelism.

    Split weights and a split vocabulary also go through the loss that writes no logits.
    """
    expected = alone(config, run_folder, tmp_path / "alone")
    mixed = tmp_path / "mixed"
    loss = "triton" if sys.platform == "linux" else "auto"
    weights = replace(config, parallel=ParallelConfig(loss=loss))
    tensor = replace(config, parallel=ParallelConfig(tensor=2, recompute="selective", loss=loss))
    context = replace(config, parallel=ParallelConfig(context=2, recompute="full"))
    cases = [(weights, mixed, 2), (tensor, mixed, 3), (context, tmp_path / "context", 4)]
    train_on(2, cases, run_folder, tmp_path)
    train(config, [run_folder], mixed, log_fn=lambda _: None)
    assert_same(mixed, expected, config)
    assert_same(tmp_path / "context", expected, config)


@pytest.mark.slow
@pytest.mark.parametrize("qk_norm", [False, True])
def test_four_ranks_in_every_combination(run_folder, config, tmp_path, qk_norm):
    config = replace(config, model=replace(config.model, qk_norm=qk_norm))
    expected = alone(config, run_folder, tmp_path / "alone")
    layouts = {
        "replicated": ParallelConfig(shard=2),
        "tensor-weights": ParallelConfig(tensor=2, recompute="selective"),
        "tensor-replicated": ParallelConfig(tensor=2, shard=1),
        "context-weights": ParallelConfig(context=2, recompute="selective"),
        "context-replicated": ParallelConfig(context=2, shard=1, recompute="full"),
        "tensor-context": ParallelConfig(tensor=2, context=2, recompute="full"),
    }
    cases = [(replace(config, parallel=parallel), tmp_path / name, 4) for name, parallel in layouts.items()]
    train_on(4, cases, run_folder, tmp_path)
    for name in layouts:
        assert_same(tmp_path / name, expected, config)
    # What four ranks with split layers and weights saved, one goes on with.
    shutil.rmtree(tmp_path / "tensor-weights/checkpoints/step-000004")
    train(replace(config, steps=4), [run_folder], tmp_path / "tensor-weights", log_fn=lambda _: None)
    bound = training_bound(config, VOCAB.size)
    assert log_of(tmp_path / "tensor-weights")["loss"][-2:] == pytest.approx(expected["loss"][-2:], rel=bound)


def test_recomputing_changes_no_number(run_folder, toy_config, tmp_path):
    """Dropout included: what is computed again is dropped again."""
    config = replace(toy_config, steps=2)
    logs = [
        alone(replace(config, parallel=ParallelConfig(recompute=recompute)), run_folder, tmp_path / recompute)
        for recompute in ("none", "selective", "full")
    ]
    assert logs[0] == logs[1] == logs[2]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_layers_train_the_same(run_folder, config, tmp_path):
    """Layers that are recomputed are compiled where their attention is: `test_compiled.py`."""
    expected = alone(config, run_folder, tmp_path / "plain")
    parallel = ParallelConfig(compile=True)
    alone(replace(config, parallel=parallel), run_folder, tmp_path / "compiled")
    assert_same(tmp_path / "compiled", expected, config)


class Place:
    """A context mesh's answers, without a group."""

    def __init__(self, index, size):
        self.get_local_rank, self.size = lambda: index, lambda: size


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("lengths", [[48], [5, 30, 13], [1] * 48, [20, 28, 47, 1]])
def test_context_parts_hold_every_pair_once(size, lengths):
    row, device = 48, torch.device("cpu")
    rows = sum(lengths) // row
    whole = Documents.packed(lengths, device).mask.view(rows, row, -1)
    columns, pairs = [], 0
    for index in range(size):
        part = ContextPart(Place(index, size))
        documents = part.documents(lengths, row, device, "documents")
        held = part.columns(row)
        assert torch.equal(documents.mask.view(rows, len(held), -1), whole[:, held])
        columns.extend(held)
        pairs += documents.pairs
    assert sorted(columns) == list(range(row))
    assert pairs == int(whole.sum())


def test_a_row_of_one_document_is_equal_work_for_all_context_ranks():
    parts = [ContextPart(Place(index, 4)).documents([64], 64, torch.device("cpu"), "documents") for index in range(4)]
    assert len({documents.pairs for documents in parts}) == 1


def test_columns_are_two_chunks_from_both_ends():
    assert np.array_equal(ContextPart(Place(1, 2)).columns(16), [4, 5, 6, 7, 8, 9, 10, 11])
    assert np.array_equal(ContextPart(Place(0, 2)).columns(16), [0, 1, 2, 3, 12, 13, 14, 15])


@pytest.mark.parametrize(
    ("parallel", "ranks", "message"),
    [
        ({"tensor": 0}, 1, "parallel.tensor is 0; it must be at least 1"),
        ({"tensor": 2}, 3, "3 ranks are no multiple of parallel.tensor 2 x parallel.context 1"),
        ({"shard": 3}, 8, "parallel.shard 3 does not divide the 8 ranks"),
        ({"tensor": 3}, 3, "model.heads 8 is no multiple of parallel.tensor 3"),
        ({"tensor": 4}, 4, "model.kv_heads 2 is no multiple of parallel.tensor 4"),
        ({"context": 5}, 5, "data.context 96 is no multiple of 2 x parallel.context 5"),
        ({"context": 48, "tensor": 2}, 96, None),
        ({"context": 16, "tensor": 4}, 64, "model.kv_heads 2"),
    ],
)
def test_layouts_that_cannot_be_are_refused_with_the_numbers(parallel, ranks, message):
    model = ModelConfig(hidden=64, heads=8, kv_heads=2, mlp=96)
    if message is None:
        ParallelConfig(**parallel).check(model, 96, ranks)
        return
    with pytest.raises(ConfigError, match=message):
        ParallelConfig(**parallel).check(model, 96, ranks)


def test_float8_says_what_it_needs(run_folder, toy_config, tmp_path):
    config = replace(toy_config, parallel=ParallelConfig(float8=True))
    with pytest.raises(ConfigError, match=r"needs a CUDA device of compute capability 8\.9 or more"):
        train(config, [run_folder], tmp_path, log_fn=lambda _: None)
