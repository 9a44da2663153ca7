"""Tasks without their question: the prompt that guidance goes away from, learned with a share of the answers."""

from dataclasses import replace

import numpy as np
import pytest

from reelmill.tokenize import documents
from reelmill.tokenize.documents import Turn, Visual, unconditional_prompt
from reelmill.tokenize.layout import EMU3_5
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.config import DataConfig
from reelmill.train.data.corpus import Corpus
from reelmill.train.data.loader import Loader

VOCAB = Vocabulary("bytes", 32, EMU3_5)
FINGERPRINT = "f" * 64
PICTURES = [Visual(np.arange(6).reshape(2, 3)), Visual(np.arange(4).reshape(2, 2))]
ANSWER = ["So:", Visual(np.full((2, 2), 7)), "done"]
CONFIG = DataConfig(context=300, batch_rows=4, heldout=0.0)


@pytest.fixture
def corpus(tmp_path):
    """40 of x2i with two pictures, 40 of t2i without, a conversation that is no task, one of two turns."""
    chats = [documents.task_document(VOCAB, "x2i", f"make it {n}", ANSWER, PICTURES) for n in range(40)]
    chats += [documents.task_document(VOCAB, "t2i", f"draw {n}", ANSWER) for n in range(40)]
    turn = Turn(["What is it?", PICTURES[0]], ["A cat."])
    chats += [documents.chat_document(VOCAB, [turn]), documents.chat_document(VOCAB, [turn, turn])]
    rows = [
        document_row(VOCAB, c.tokens, sample_id=f"{n}", item_id=f"{n}", fingerprint=FINGERPRINT, answers=c.answers)
        for n, c in enumerate(chats)
    ]
    folder = tmp_path / "tokens" / FINGERPRINT[:12]
    folder.mkdir(parents=True)
    write_shard(folder / "unit-000000.parquet", rows, VOCAB, FINGERPRINT)
    return Corpus([tmp_path], None, CONFIG)


def contents_of(corpus, epoch=0, **changes):
    """What each document puts into its row."""
    loader = Loader(corpus, np.arange(len(corpus)), replace(CONFIG, **changes), seed=0)
    packing = loader.packing(epoch)
    found = {c.document: c for row in range(packing.rows) for c in loader._contents(packing.row(row), epoch)}
    batches = [loader.build([packing.row(row)], epoch) for row in range(packing.rows)]
    return found, sum(batch.weights.sum() for batch in batches)


def test_the_prompt_becomes_the_one_of_guidance_and_the_answer_stays(corpus):
    whole, weight = contents_of(corpus)
    found, same = contents_of(corpus, question_drop=1.0)
    for number in range(80):
        before, after = whole[number], found[number]
        prompt = unconditional_prompt(VOCAB, PICTURES if number < 40 else [])
        start, stop = after.answers.tolist()
        assert after.tokens[:start].tolist() == prompt.tolist()
        assert after.tokens[start:stop].tolist() == before.tokens[slice(*before.answers)].tolist()
        assert documents.parse(VOCAB, after.tokens).tokens[-1] == VOCAB.eos
    for number in (80, 81):
        assert np.array_equal(found[number].tokens, whole[number].tokens), "a conversation keeps what was asked"
    assert weight == same, "what is learned is the answer, in either case"


def test_a_share_is_drawn_anew_each_epoch_and_none_of_what_is_held_out(corpus, tmp_path):
    draws = [corpus.questions_dropped(0.25, 0, epoch) for epoch in range(2)]
    assert all(8 < draw[:80].sum() < 34 for draw in draws) and not np.array_equal(*draws)
    assert not corpus.questions_dropped(0.0, 0, 0).any()
    held = Corpus([tmp_path], None, replace(CONFIG, heldout=0.5))
    assert held.heldout.any() and not held.questions_dropped(1.0, 0, 0)[held.heldout].any()
    assert replace(CONFIG, question_drop=0.5).for_validation().question_drop == 0
