import numpy as np
import pytest

from reelmill.tokenize import documents
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.saver import CheckpointConfig

VOCAB = Vocabulary("bytes", 64)
FINGERPRINT = "ab" * 32


def write_folder(out, rows, unit=0, fingerprint=FINGERPRINT, vocab=VOCAB):
    folder = out / "tokens" / fingerprint[:12]
    folder.mkdir(parents=True, exist_ok=True)
    write_shard(folder / f"unit-{unit:06d}.parquet", rows, vocab, fingerprint, row_group_tokens=500)


def row(number, tokens, vocab=VOCAB, fingerprint=FINGERPRINT):
    return document_row(vocab, tokens, sample_id=f"s{number}", item_id=f"i{number}", fingerprint=fingerprint)


def make_rows(count=30, seed=0, vocab=VOCAB):
    """Images of 3 x 4 codes, videos of 2 to 6 frames of 3 x 3 codes, texts of up to 200 bytes."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        caption = f"picture {number}"
        if number % 3 == 0:
            codes = rng.integers(0, 8, (3, 4)) + 8 * (number % 2)
            tokens = documents.image_document(vocab, codes, caption, caption_after=number % 2 == 0)
        elif number % 3 == 1:
            t = int(rng.integers(2, 7))
            codes = np.repeat(rng.integers(0, vocab.codes, (1, 3, 3)), t, axis=0)
            tokens = documents.video_document(vocab, codes, caption, 8.0, documents.seconds_of(t, 8.0))
        else:
            tokens = documents.text_document(vocab, caption * int(rng.integers(1, 18)))
        rows.append(row(number, tokens))
    return rows


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    rows = make_rows()
    write_folder(out, rows[:17], 0)
    write_folder(out, rows[17:], 1)
    return out


@pytest.fixture
def toy_config():
    """A model of 20,000 parameters that takes milliseconds a step."""
    return TrainConfig(
        model=ModelConfig(hidden=16, layers=2, heads=2, kv_heads=1, mlp=24, dropout=0.1, attention_dropout=0.1),
        data=DataConfig(context=96, batch_rows=4, heldout=0.2),
        optimizer=OptimizerConfig(lr=1e-2, warmup_steps=2),
        steps=4,
        precision="float32",
        device="cpu",
        validate_every=2,
        checkpoint=CheckpointConfig(every=2),
    )


@pytest.fixture
def shard_writer():
    def write(out, token_lists, vocab=VOCAB):
        write_folder(out, [row(n, tokens, vocab) for n, tokens in enumerate(token_lists)], vocab=vocab)

    return write
