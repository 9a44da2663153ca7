"""A run folder of one picture, a training run of a few steps on it, and the command line as a test calls it."""

import numpy as np
from typer.testing import CliRunner

from reelmill.pipelines.cli import app
from reelmill.tokenize import documents, vision
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig

VOCAB = Vocabulary("bytes", 4096)


def reelmill(*arguments):
    """What the command prints; it must succeed."""
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def toy_run(out, steps=1, caption_drop=0.0):
    """The folder of a training run with a checkpoint after each of its steps; its data lie beside it."""
    fingerprint = vision.load("reelmill-tok-xs").fingerprint
    tokens = documents.image_document(VOCAB, np.arange(6).reshape(2, 3), "six codes")
    row = document_row(VOCAB, tokens, sample_id="s", item_id="i", fingerprint=fingerprint)
    folder = out / "tokens" / fingerprint[:12]
    folder.mkdir(parents=True)
    write_shard(folder / "unit-000000.parquet", [row], VOCAB, fingerprint)
    config = TrainConfig(
        model=ModelConfig(hidden=16, layers=1, heads=2, kv_heads=1, mlp=24),
        data=DataConfig(context=64, batch_rows=1, heldout=0.0, caption_drop=caption_drop),
        steps=steps,
        precision="float32",
        device="cpu",
        checkpoint=CheckpointConfig(every=1),
    )
    train(config, [out], out / "toy", log_fn=lambda _: None)
    return out / "toy"
