"""Recipes of understanding, and what is said of conversations before a run starts."""

import tomllib

import numpy as np
import pytest

from reelmill.config import from_dict, to_toml
from reelmill.errors import DataError
from reelmill.tokenize.documents import Turn, Visual, chat_document
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.check_data import check_data
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.data.conversations import conversation_problems
from reelmill.train.data.corpus import Corpus
from reelmill.train.recipes import recipe
from reelmill.train.run import train

VOCAB = Vocabulary("bytes", 64)
FINGERPRINT = "ab" * 32
NAMES = ("understanding_stage1", "understanding_stage2", "unified", "captioner")


def write(out, rows):
    path = out / "tokens" / FINGERPRINT[:12] / "unit-000000.parquet"
    path.parent.mkdir(parents=True)
    write_shard(path, rows, VOCAB, FINGERPRINT)
    return out


def chat_row(name, turns, answers=None):
    chat = chat_document(VOCAB, turns)
    spans = chat.answers if answers is None else answers(chat)
    return document_row(VOCAB, chat.tokens, sample_id=name, item_id=name, fingerprint=FINGERPRINT, answers=spans)


TURNS = [Turn([Visual(np.zeros((2, 2), dtype=int)), "What?"], ["A cat."]), Turn(["And?"], ["A hat."])]


@pytest.mark.parametrize("name", NAMES)
def test_recipes_survive_toml_and_go_on_from_weights(name):
    config = recipe(name)
    assert from_dict(TrainConfig, tomllib.loads(to_toml(config))) == config
    assert config.init
    assert config.objective == "next_token"


def test_understanding_has_no_loss_on_codes_and_the_unified_model_has():
    first, second, unified = (recipe(name).data for name in NAMES[:3])
    for data in (first, second):
        assert (data.vision_weight, data.text_weight, data.caption_after) == (0.0, 1.0, 1.0)
        assert {"text", "image"} <= set(data.kinds)
    largest = 128 * 129 + 20
    assert second.context > largest, "a picture of 1024 x 1024"
    assert (unified.vision_weight, unified.structure_weight, unified.caption_after) == (0.5, 1.0, 0.5)
    assert "interleaved" in unified.kinds


def test_conversations_with_empty_answers_are_named_before_the_run(tmp_path, toy_config):
    def blank(chat):
        (start, _), second = chat.answers
        return [(start, start + 1), second]  # the blank that an answer begins with

    good, bad = chat_row("good", TURNS), chat_row("bad", TURNS, blank)
    folder = write(tmp_path / "run", [good, bad])
    problems = list(conversation_problems(Corpus([folder], None, DataConfig())))
    assert problems == [f"conversation {bad['doc_id']} in {folder}: answer 1 is empty"]
    with pytest.raises(DataError, match=f"conversation {bad['doc_id']}.*answer 1 is empty"):
        check_data(toy_config, [folder], None)
    sound = write(tmp_path / "sound", [good, chat_row("other", TURNS)])
    assert "2 documents are sound" in check_data(toy_config, [sound], None)


def test_a_model_trains_on_conversations_and_learns_their_answers_alone(tmp_path, toy_config):
    rows = [chat_row(f"c{n}", [Turn([f"question {n % 3}"], ["yes" if n % 2 else "no"])]) for n in range(24)]
    folder = write(tmp_path / "run", rows)
    toy_config.steps, toy_config.validate_every = 30, 1_000
    toy_config.data.context, toy_config.data.heldout = 128, 0.0
    messages = []
    train(toy_config, [folder], tmp_path / "out", log_fn=messages.append)
    losses = [float(line.split("loss ")[1].split()[0]) for line in messages if " loss " in line]
    assert losses[-1] < 0.5 * losses[0]
