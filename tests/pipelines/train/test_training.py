"""`reelmill train` on Ray's workers, and the pictures that it draws on the way."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from reelmill.config import to_dict, to_toml
from reelmill.errors import ConfigError, DataError
from reelmill.orchestration.engine import stop_ray
from reelmill.pipelines.train.run import train_on_ray
from reelmill.pipelines.train.sample_images import sample_images
from reelmill.tokenize import documents, vision
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig

VOCAB = Vocabulary("bytes", 4096)
PROMPTS = ["a red square", "a blue one"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve images of 2 x 3 codes of the shipped tokenizer, and a text."""
    out = tmp_path_factory.mktemp("run")
    fingerprint = vision.load("reelmill-tok-xs").fingerprint
    rng = np.random.default_rng(0)
    tokens = [documents.image_document(VOCAB, rng.integers(0, 4096, (2, 3)), f"picture {n}") for n in range(12)]
    tokens.append(documents.text_document(VOCAB, "words " * 20))
    rows = [
        document_row(VOCAB, ids, sample_id=f"s{n}", item_id=f"i{n}", fingerprint=fingerprint)
        for n, ids in enumerate(tokens)
    ]
    folder = out / "tokens" / fingerprint[:12]
    folder.mkdir(parents=True)
    write_shard(folder / "unit-000000.parquet", rows, VOCAB, fingerprint)
    return out


@pytest.fixture
def config():
    return TrainConfig(
        model=ModelConfig(hidden=16, layers=2, heads=2, kv_heads=1, mlp=24, dropout=0.0, attention_dropout=0.0),
        data=DataConfig(context=64, batch_rows=2, heldout=0.2),
        optimizer=OptimizerConfig(lr=1e-2, warmup_steps=2),
        steps=4,
        precision="float32",
        device="cpu",
        validate_every=2,
        sample_prompts=PROMPTS,
        checkpoint=CheckpointConfig(every=2),
    )


def losses_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def pictures_in(out):
    found = {path.relative_to(out).as_posix(): np.asarray(Image.open(path)) for path in sorted(out.rglob("*.png"))}
    assert list(found) == [f"samples/step-{step:06}/{number:02}.png" for step in (2, 4) for number in (0, 1)]
    return found


def test_pictures_are_drawn_at_each_validation(data, config, tmp_path):
    messages = []
    train(config, [data], tmp_path / "alone", make_sample_fn=sample_images(None), log_fn=messages.append)
    alone = pictures_in(tmp_path / "alone")
    assert {picture.shape for picture in alone.values()} == {(16, 24, 3)}
    assert any("drew" in line and "step-000004" in line for line in messages)
    assert not np.array_equal(alone["samples/step-000002/00.png"], alone["samples/step-000002/01.png"])


@pytest.mark.slow
def test_pictures_of_a_model_on_two_ranks_equal_those_of_one(data, config, tmp_path):
    train(config, [data], tmp_path / "alone", make_sample_fn=sample_images(None), log_fn=lambda _: None)
    alone = pictures_in(tmp_path / "alone")
    (tmp_path / "recipe.toml").write_text(to_toml(config))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "reelmill"]
    command = [*torchrun, "train", tmp_path / "recipe.toml", "--data", data, "--out", tmp_path / "two"]
    subprocess.run(
        [*command, "--selection", "all"], check=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    two = pictures_in(tmp_path / "two")
    assert losses_of(tmp_path / "two") == pytest.approx(losses_of(tmp_path / "alone"), rel=1e-5)
    assert all(np.array_equal(two[name], alone[name]) for name in alone)


def test_another_tokenizer_than_the_documents_is_refused_before_training(data, config, tmp_path):
    with pytest.raises(DataError, match="reelmill-tok-s is"):
        train(config, [data], tmp_path, make_sample_fn=sample_images("reelmill-tok-s"), log_fn=lambda _: None)
    assert not (tmp_path / "recipe.toml").exists()


@pytest.mark.slow
def test_ray_workers_compute_what_one_process_does(data, config, tmp_path):
    config = replace(config, sample_prompts=[])
    train(config, [data], tmp_path / "alone", log_fn=lambda _: None)
    settings = {
        "data": [str(data)], "conditions": [""], "out": str(tmp_path / "ray"), "selection": None, "tokenizer": None,
        "json": False,
    }  # fmt: skip
    messages = []
    try:
        train_on_ray({**settings, "recipe": to_dict(config)}, 2, messages.append)
        shards = list((tmp_path / "ray/checkpoints/step-000004/model").iterdir())
        with pytest.raises(ConfigError, match="seed: 0 -> 1"):
            train_on_ray({**settings, "recipe": to_dict(replace(config, seed=1))}, 2, messages.append)
    finally:
        stop_ray()
    assert losses_of(tmp_path / "ray") == pytest.approx(losses_of(tmp_path / "alone"), rel=1e-5)
    assert len(shards) == 2, "each worker writes its own"
    assert sum("step 4/4" in line for line in messages) == 1
