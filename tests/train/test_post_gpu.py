"""The stages after pretraining, one from the other's weights: quality, preferences, understanding.

The same run on a CPU in float32, and (marker `gpu`) on CUDA in bfloat16 under FSDP2.
"""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from reelmill.tokenize import documents
from reelmill.tokenize.documents.chat import Turn, chat_document
from reelmill.tokenize.shards import Footer, document_row, write_shard
from reelmill.tokenize.shards.pairs import pair_row, write_pairs
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.run import train

VOCAB = Vocabulary("bytes", 64)
FINGERPRINT = "ab" * 32


def make_data(folder):
    """Run folders `pictures` and `talks`, and pairs in `pictures`: chosen pictures have low codes."""
    rng = np.random.default_rng(0)
    pictures, talks, pairs = [], [], []
    for number in range(16):
        prompt = f"picture {number}"
        names = {"sample_id": f"s{number}", "item_id": f"i{number}", "fingerprint": FINGERPRINT}
        chosen, rejected = (rng.integers(low, low + 32, (3, 4)) for low in (0, 32))
        both = [documents.image_document(VOCAB, codes, prompt) for codes in (chosen, rejected)]
        pairs.append(pair_row(prompt, len(prompt) + 6, *both))
        pictures.append(document_row(VOCAB, both[0], **names))
        talk = chat_document(VOCAB, [Turn([documents.Visual(chosen), "which?"], [f" the {number}th"])])
        talks.append(document_row(VOCAB, talk.tokens, answers=talk.answers, **names))
    for name, rows in (("pictures", pictures), ("talks", talks)):
        shard = folder / name / "tokens" / FINGERPRINT[:12] / "unit-000000.parquet"
        shard.parent.mkdir(parents=True)
        write_shard(shard, rows, VOCAB, FINGERPRINT)
    write_pairs(folder / "pictures/pairs/mine/a.parquet", pairs, Footer(FINGERPRINT, VOCAB, FINGERPRINT))


def train_stages(toy_config, folder, device, precision):
    """Lines of the logs of each stage, which begins with the last one's weights."""
    make_data(folder)
    model = replace(toy_config.model, hidden=32, mlp=48, dropout=0.0, attention_dropout=0.0)
    base = replace(
        toy_config,
        model=model,
        data=replace(toy_config.data, context=160, batch_rows=2),
        steps=16,
        validate_every=16,
        precision=precision,
        device=device,
    )
    vision_only = replace(base.data, kinds=("image",), text_weight=0.0, structure_weight=0.0, vision_weight=1.0)
    falling = replace(base.optimizer, schedule="linear")
    stages = {
        "pretraining": (base, "pictures"),
        "quality": (replace(base, data=vision_only, optimizer=falling), "pictures"),
        "preferences": (replace(base, objective="preference"), "pictures"),
        "understanding": (replace(base, data=replace(base.data, vision_weight=0.0)), "talks"),
    }
    lines, init = {}, ""
    for name, (config, data) in stages.items():
        train(replace(config, init=init), [folder / data], folder / name, log_fn=lambda _: None)
        init = str(folder / name)
        logged = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        lines[name] = [line for line in logged if "loss" in line], logged[-1]["validation"]
    return lines


def check_stages(lines):
    for steps, _ in lines.values():
        assert len(steps) == 16
        assert all(math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"]) for line in steps)
    for name in ("quality", "preferences", "understanding"):
        steps = lines[name][0]
        assert np.mean([line["loss"] for line in steps[-4:]]) < steps[0]["loss"], name
    quality, (preferences, heldout) = lines["quality"][0], lines["preferences"]
    assert quality[0]["loss"] == pytest.approx(quality[0]["vision"], rel=1e-3), "only codes count"
    assert preferences[0]["margin"] == pytest.approx(0.0, abs=0.05)
    assert preferences[-1]["margin"] > 0.1
    assert heldout["margin"] > 0
    understanding = lines["understanding"][0]
    assert understanding[-1]["text"] < understanding[0]["text"]


def test_each_stage_learns_from_the_weights_of_the_last(toy_config, tmp_path):
    check_stages(train_stages(toy_config, tmp_path, "cpu", "float32"))


@pytest.mark.gpu
def test_on_a_gpu_in_bfloat16_each_stage_learns_too(toy_config, tmp_path):
    check_stages(train_stages(toy_config, tmp_path, "cuda", "bfloat16"))
