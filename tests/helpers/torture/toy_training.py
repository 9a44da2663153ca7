"""A model of 20,000 parameters that trains for some steps in a second, and where it ends."""

from dataclasses import replace

import numpy as np

from reelmill.tokenize import documents
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import checkpoint
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig

VOCAB = Vocabulary("bytes", 64)
STEPS = 40
CONFIG = TrainConfig(
    model=ModelConfig(hidden=16, layers=2, heads=2, kv_heads=1, mlp=24, dropout=0.1, attention_dropout=0.1),
    data=DataConfig(context=96, batch_rows=4, heldout=0.2),
    steps=STEPS,
    precision="float32",
    device="cpu",
    validate_every=STEPS,
    checkpoint=CheckpointConfig(every=4, keep=3),
)


def write_data(out):
    """A run folder of pictures to train on."""
    chance = np.random.default_rng(0)
    rows = []
    for number in range(30):
        tokens = documents.image_document(VOCAB, chance.integers(0, 64, (3, 4)), f"picture {number}")
        rows.append(document_row(VOCAB, tokens, sample_id=f"s{number}", item_id=f"i{number}", fingerprint="ab" * 32))
    folder = out / "tokens" / ("ab" * 6)
    folder.mkdir(parents=True)
    write_shard(folder / "unit-000000.parquet", rows, VOCAB, "ab" * 32)
    return out


def go_on(data, out, until=None):
    """Train to the end, or to a step."""
    train(replace(CONFIG), [data], out, until=until, log_fn=lambda line: print(line, flush=True))


def weights(out):
    """The weights of the last step, as bytes by name."""
    state = checkpoint.load_decoder(checkpoint.latest(out / "checkpoints"))[0].state_dict()
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}
