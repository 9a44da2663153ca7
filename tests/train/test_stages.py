"""Each stage after pretraining makes its steps from the weights of the one before: on a CPU, and in bf16 on CUDA."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from reelmill.tokenize import documents
from reelmill.tokenize.documents import Turn, Visual, chat_document
from reelmill.tokenize.shards import Footer, document_row, write_shard
from reelmill.tokenize.shards.pairs import pair_row, write_pairs
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.parallel import ParallelConfig
from reelmill.train.recipes import recipe
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig

VOCAB = Vocabulary("bytes", 64)
FINGERPRINT = "ab" * 32


def write_chats(folder):
    """Conversations about pictures of 3 x 4 codes."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(16):
        picture = Visual(rng.integers(0, 64, (3, 4)))
        chat = chat_document(VOCAB, [Turn([picture, "What?"], [f"A {number}"]), Turn(["Why?"], ["So"])])
        ids = {"sample_id": f"c{number}", "item_id": f"c{number}", "fingerprint": FINGERPRINT}
        rows.append(document_row(VOCAB, chat.tokens, answers=chat.answers, **ids))
    path = folder / "tokens" / FINGERPRINT[:12] / "unit-000000.parquet"
    path.parent.mkdir(parents=True)
    write_shard(path, rows, VOCAB, FINGERPRINT)


def write_preferences(folder):
    """Pairs of pictures of 3 x 4 codes."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(16):
        prompt = f"picture {number}"
        drawn = [documents.image_document(VOCAB, rng.integers(0, 64, (3, 4)), prompt) for _ in range(2)]
        rows.append(pair_row(prompt, len(prompt) + 6, *drawn))
    write_pairs(folder / "pairs" / "mine" / "part-000000.parquet", rows, Footer(FINGERPRINT, VOCAB, FINGERPRINT))


@pytest.mark.parametrize(
    ("device", "precision"), [("cpu", "float32"), pytest.param("cuda", "bfloat16", marks=pytest.mark.gpu)]
)
def test_every_stage_after_pretraining_makes_its_steps(run_folder, toy_config, tmp_path, device, precision):
    toy = replace(
        toy_config,
        model=replace(toy_config.model, dropout=0.0, attention_dropout=0.0),
        device=device,
        precision=precision,
    )
    base = train(replace(toy, steps=1), [run_folder], tmp_path / "base", log_fn=lambda _: None)
    write_chats(tmp_path / "chats")
    write_preferences(tmp_path / "drawn")
    stages = {
        "qft": [run_folder],
        "dpo": [tmp_path / "drawn"],
        "understanding_stage1": [run_folder],
        "understanding_stage2": [tmp_path / "chats"],
        "unified": [run_folder, tmp_path / "chats"],
    }
    for name, data in stages.items():
        large = recipe(name)
        config = replace(
            toy,
            init=str(base),
            objective=large.objective,
            settings=large.settings,
            data=replace(large.data, context=256, batch_rows=2, heldout=0.2),
            parallel=ParallelConfig(recompute=large.parallel.recompute),
            steps=2,
            checkpoint=CheckpointConfig(every=2),
        )
        train(config, data, tmp_path / name, log_fn=lambda _: None)
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        losses = [line["loss"] for line in lines if "loss" in line]
        assert len(losses) == 2, name
        assert all(map(math.isfinite, losses)), name
        assert lines[-1]["validation"], name
