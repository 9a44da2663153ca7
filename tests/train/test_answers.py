"""Conversations in training: answers alone count, each is followed by EOS, and packing keeps them whole."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from reelmill.errors import DataError
from reelmill.tokenize import documents
from reelmill.tokenize.documents import Turn, Visual, chat_document
from reelmill.tokenize.shards import ShardIndex, document_row, verify_shard, write_shard
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.batches import Contents, assemble
from reelmill.train.data.config import DataConfig
from reelmill.train.data.corpus import Corpus
from reelmill.train.data.loader import Loader

VOCAB = Vocabulary("bytes", 64)
FINGERPRINT = "ab" * 32
WEIGHTS = np.array([1.0, 0.75, 0.5], dtype=np.float32)
PICTURE = Visual(np.arange(12).reshape(3, 4))
TURNS = [Turn([PICTURE, "What?"], ["A cat"]), Turn(["Draw"], [PICTURE]), Turn(["Why?"], ["So"])]


def row(name, tokens, answers=None):
    return document_row(VOCAB, tokens, sample_id=name, item_id=name, fingerprint=FINGERPRINT, answers=answers)


def chat_row(name, turns):
    return row(name, *chat_document(VOCAB, turns))


def folder(out, rows):
    path = out / "tokens" / FINGERPRINT[:12] / "unit-000000.parquet"
    path.parent.mkdir(parents=True)
    write_shard(path, rows, VOCAB, FINGERPRINT)
    assert verify_shard(path) == []
    return path


def loader_of(out, **config):
    config = DataConfig(**{"context": 400, "batch_rows": 64, "heldout": 0.0, **config})
    corpus = Corpus([out], None, config)
    return Loader(corpus, np.arange(len(corpus)), config, seed=0)


def counted(batch):
    """(target, weight) of each prediction that counts, row after row."""
    places = np.flatnonzero(batch.weights.reshape(-1))
    return list(
        zip(batch.targets.reshape(-1)[places].tolist(), batch.weights.reshape(-1)[places].tolist(), strict=True)
    )


def learned(answers):
    """What a batch counts of the answers of `TURNS`."""
    eos = [(VOCAB.eos, 0.75)]
    picture = documents.interleaved_document(VOCAB, [PICTURE])[1:-1]
    kinds = documents.token_kinds(VOCAB, picture, meta=documents.TokenKind.STRUCTURE)
    drawn = [(token, float(WEIGHTS[kind])) for token, kind in zip(picture.tolist(), kinds.tolist(), strict=True)]
    text = {0: " A cat", 2: " So"}
    return [
        pair for n in answers for pair in ([(byte, 1.0) for byte in text[n].encode()] if n in text else drawn) + eos
    ]


def test_only_the_answers_count_and_each_ends_with_eos():
    chat = chat_document(VOCAB, TURNS)
    edges = np.array(chat.answers, dtype=np.int32).reshape(-1)
    plain = Contents(0, documents.text_document(VOCAB, "plain"))
    batch = assemble(VOCAB, [[plain, Contents(1, chat.tokens, answers=edges)]], 300, WEIGHTS)
    assert counted(batch)[:6] == [(byte, 1.0) for byte in b"plain"] + [(VOCAB.eos, 0.75)]
    assert counted(batch)[6:] == learned([0, 1, 2])
    shown = batch.tokens[0, len(plain.tokens) - 1 :][: len(chat.tokens) - 1]
    assert np.array_equal(shown, chat.tokens[:-1]), "the model still reads the next turn"
    assert np.array_equal(batch.kinds >= 0, batch.weights > 0), "what is logged is what is learned"


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_cut_text_conversation_counts_each_answer_token_once(cut):
    chat = chat_document(VOCAB, [Turn(["a"], ["bc"]), Turn(["d"], ["e"])], system="")
    edges = np.array(chat.answers, dtype=np.int32).reshape(-1)
    cut = min(cut, len(chat.tokens) - 2)
    pieces = [(0, cut), (cut, len(chat.tokens) - 1)]
    contents = [Contents(0, chat.tokens[a : b + 1], answers=edges - a) for a, b in pieces]
    whole = assemble(VOCAB, [[Contents(0, chat.tokens, answers=edges)]], 60, WEIGHTS)
    assert counted(assemble(VOCAB, [[c] for c in contents], 60, WEIGHTS)) == counted(whole)
    assert len(counted(whole)) == len(" bc" + " e") + 2


def test_the_loader_counts_answers_from_shards_and_other_documents_whole(tmp_path):
    picture = documents.image_document(VOCAB, PICTURE.codes, "words")
    folder(tmp_path, [chat_row("a", TURNS), row("b", picture), chat_row("c", TURNS[2:])])
    loader = loader_of(tmp_path, structure_weight=0.75)
    found = [pair for batch in loader.micro_batches(0, 0) for pair in counted(batch)]
    assert sorted(found) == sorted(
        learned([0, 1, 2]) + learned([2]) + counted(assemble(VOCAB, [[Contents(0, picture)]], 300, WEIGHTS))
    )


def test_packing_keeps_conversations_whole_and_cuts_only_texts_longer_than_the_context(tmp_path):
    short = [chat_row(f"s{n}", [Turn(["q" * (20 + n)], ["answer"])]) for n in range(30)]
    long = chat_row("long", [Turn(["q" * 50], ["a" * 300])])
    too_large = chat_row("large", [Turn([Visual(np.zeros((20, 20), dtype=int)), "q"], ["a"])])
    folder(tmp_path, [*short, long, too_large])
    loader = loader_of(tmp_path, context=150)
    assert [loader.corpus.name(n).split()[0] for n in loader.left_out] == [too_large["doc_id"]]
    pieces = loader.packing(0).pieces
    sizes = {n: pieces.size[pieces.document == n].tolist() for n in range(31)}
    assert all(len(sizes[n]) == 1 for n in range(30))
    assert len(sizes[30]) > 1
    assert sum(sizes[30]) == long["n_tokens"] - 1
    counts = [len(counted(loader.build([loader.packing(0).row(r)]))) for r in range(loader.packing(0).rows)]
    assert sum(counts) == 30 * len(" answer$") + 302


def test_captions_are_moved_behind_the_codes_for_a_share_drawn_each_epoch(tmp_path):
    pictures = [documents.image_document(VOCAB, PICTURE.codes, f"picture {n}") for n in range(200)]
    folder(tmp_path, [*(row(f"p{n}", tokens) for n, tokens in enumerate(pictures)), chat_row("chat", TURNS)])
    seen = []
    for epoch, share in ((0, 1.0), (0, 0.3), (1, 0.3)):
        loader = loader_of(tmp_path, caption_after=share, caption_drop=0.2)
        found = {}
        for r in range(loader.packing(epoch).rows):
            for contents in loader._contents(loader.packing(epoch).row(r), epoch):
                found[contents.document] = documents.parse(VOCAB, contents.tokens)
        assert found.pop(200).kind == "interleaved"
        assert all(d.caption in (f"picture {n}", "") for n, d in found.items())
        seen.append({n for n, d in found.items() if d.caption_after})
        assert 20 < sum(not d.caption for d in found.values()) < 60
        if share == 1:
            assert all(d.caption_after or not d.caption for d in found.values())
    assert 30 < len(seen[1]) < 70
    assert seen[1] != seen[2]


@pytest.mark.parametrize("lacking", [["answers"], ["answers", "blocks"]])
def test_shards_without_the_column_read_verify_and_mix_with_others(tmp_path, lacking):
    path = folder(tmp_path, [row("old", documents.text_document(VOCAB, "old words"))])
    write_shard(path.with_name("unit-000001.parquet"), [chat_row("new", TURNS)], VOCAB, FINGERPRINT)
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(lacking), path)
    assert verify_shard(path) == []
    index = ShardIndex(tmp_path)
    assert [answers is None for answers in index.columns["answers"].to_pylist()] == [True, False]
    assert Corpus([tmp_path], None, DataConfig()).answered.tolist() == [False, True]
    write_shard(path, pq.read_table(path), VOCAB, FINGERPRINT)
    assert "answers" in pq.read_schema(path).names


@pytest.mark.parametrize("answers", [[(0, 3)], [(2, 2)], [(2, 4), (4, 5)], [(4, 5), (1, 2)], [(2, 99)], [], [(3, 7)]])
def test_spans_that_are_none_are_refused(tmp_path, answers):
    tokens = documents.text_document(VOCAB, "hello")
    with pytest.raises(DataError, match=r"document .*answers"):
        folder(tmp_path, [row("bad", tokens, answers)])
    assert replace(DataConfig(), caption_after=0.5).for_validation().caption_after == 0.5
