from dataclasses import replace

import numpy as np
import pytest

from reelmill.errors import ConfigError, DataError
from reelmill.tokenize import documents
from reelmill.tokenize.documents import TokenKind, parse
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data import Corpus, DataConfig, Loader

CONTEXT = 70


@pytest.fixture
def config():
    return DataConfig(context=CONTEXT, batch_rows=4, heldout=0.0)


@pytest.fixture
def corpus(run_folder, config):
    return Corpus([run_folder], None, config)


def documents_in(batch):
    """(row, inputs + last target, positions, weights, kinds) of each document of a batch; padding left out."""
    context = batch.tokens.shape[1]
    flat = {name: getattr(batch, name).reshape(-1) for name in ("tokens", "targets", "positions", "weights", "kinds")}
    start = 0
    for length in batch.lengths:
        span = slice(start, start + length)
        if flat["kinds"][start] >= 0:
            ids = np.append(flat["tokens"][span], flat["targets"][start + length - 1])
            yield start // context, ids, flat["positions"][span], flat["weights"][span], flat["kinds"][span]
        start += length
    assert start == batch.tokens.size


def epoch(loader, number=0):
    before = sum(loader.batches(earlier) for earlier in range(number))
    steps = range(before, before + loader.batches(number))
    return [batch for step in steps for batch in loader.micro_batches(step, 0)]


def test_an_epoch_trains_every_token_once_and_repeats_only_headers(corpus, config):
    loader = Loader(corpus, np.arange(len(corpus)), config, seed=0)
    assert len(loader.left_out) == 0
    weighted = dict.fromkeys(TokenKind, 0.0)
    for batch in epoch(loader):
        for _, ids, positions, weights, kinds in documents_in(batch):
            assert np.array_equal(positions, np.arange(len(positions)))
            if ids[0] == corpus.vocab.bos and ids[-1] == corpus.vocab.eos:
                assert np.array_equal(kinds, parse(corpus.vocab, ids).loss_kinds[1:])
            else:
                assert (ids < corpus.vocab.text_size)[1:-1].all(), "only texts are cut anywhere"
            for kind in (TokenKind.TEXT, TokenKind.STRUCTURE, TokenKind.VISION):
                expected = 0.5 if kind == TokenKind.VISION else 1.0
                assert set(weights[kinds == kind]) <= {0.0, expected}
                weighted[kind] += (weights[kinds == kind] / expected).sum()
    whole = [parse(corpus.vocab, tokens) for tokens in corpus.read(np.arange(len(corpus)))]
    assert weighted[TokenKind.VISION] == sum(d.n_vision for d in whole)
    assert weighted[TokenKind.TEXT] == sum((d.kinds == TokenKind.TEXT).sum() for d in whole)


def test_images_are_whole_and_videos_cut_between_latent_frames(corpus, config):
    loader = Loader(corpus, np.arange(len(corpus)), config, seed=1)
    longest = max(corpus.n_tokens[corpus.kind == 0])
    assert longest > CONTEXT, "some video must need cutting"
    seen = []
    for batch in epoch(loader):
        for _, ids, _, _, _ in documents_in(batch):
            if (corpus.vocab.boi == ids).any():
                document = parse(corpus.vocab, ids)  # raises unless whole frames stand behind a header that says so
                seen.append((document.caption, document.codes))
    for tokens in corpus.read(np.flatnonzero(corpus.kind != 2)):
        document = parse(corpus.vocab, tokens)
        parts = [codes for caption, codes in seen if caption == document.caption]
        if document.kind == "image":
            assert len(parts) == 1
        assert sum(len(codes) for codes in parts) == len(document.codes)


@pytest.mark.parametrize("lessons", [0, 3])
def test_batches_depend_on_seed_epoch_and_data_only(run_folder, corpus, config, lessons):
    everything, config = np.arange(len(corpus)), replace(config, lessons=lessons)
    one = epoch(Loader(corpus, everything, config, seed=0), 1)
    two = epoch(Loader(Corpus([run_folder], None, config), everything, config, seed=0), 1)
    assert all(np.array_equal(a.tokens, b.tokens) for a, b in zip(one, two, strict=True))
    for other in (
        epoch(Loader(corpus, everything, config, seed=1), 1),
        epoch(Loader(corpus, everything, config, 0), 2),
    ):
        assert not all(np.array_equal(a.tokens, b.tokens) for a, b in zip(one, other, strict=False))


@pytest.mark.parametrize("lessons", [0, 2])
@pytest.mark.parametrize(("ranks", "micro"), [(2, 1), (2, 2), (4, 1), (1, 4)])
def test_a_step_has_the_same_rows_on_any_number_of_ranks(corpus, config, ranks, micro, lessons):
    everything, config = np.arange(len(corpus)), replace(config, lessons=lessons)
    alone = Loader(corpus, everything, config, seed=0)
    shared = Loader(corpus, everything, replace(config, micro_rows=micro), seed=0, ranks=ranks)
    for step in range(alone.batches(0) + alone.batches(1)):
        expected = sorted(b.tokens.tobytes() for b in alone.micro_batches(step, 0))
        batches = [shared.micro_batches(step, rank) for rank in range(ranks)]
        assert len({len(b) for b in batches}) == 1, "every rank makes equally many forward passes"
        rows = [r for own in batches for b in own for r, k in zip(b.tokens, b.kinds, strict=True) if (k >= 0).any()]
        assert sorted(r.tobytes() for r in rows) == expected


def visuals(loader, number):
    """The images and videos of an epoch, parts of videos and lessons too, as bytes."""
    found = [ids for batch in epoch(loader, number) for _, ids, *_ in documents_in(batch)]
    return [ids.tobytes() for ids in found if (ids == loader.corpus.vocab.boi).any()]


def test_lessons_come_on_top_of_the_documents_and_are_new_each_epoch(corpus, config):
    everything = np.arange(len(corpus))
    plain, taught = Loader(corpus, everything, config, 0), Loader(corpus, everything, replace(config, lessons=3), 0)
    drawn = []
    for number in range(2):
        unseen = visuals(taught, number)
        for document in visuals(plain, number):
            unseen.remove(document)
        assert len(unseen) == 3 * (corpus.kind != 2).sum()
        drawn.append(sorted(unseen))
    assert drawn[0] != drawn[1]


def test_of_a_lesson_all_but_the_caption_counts(corpus, config):
    loader = Loader(corpus, np.arange(len(corpus)), replace(config, lessons=4), 0)
    cut = with_caption = 0
    for batch in epoch(loader):
        for _, ids, _, weights, kinds in documents_in(batch):
            if ids[-1] == corpus.vocab.eol:
                is_text = kinds == TokenKind.TEXT
                assert np.array_equal(weights > 0, ~is_text)
                cut, with_caption = cut + 1, with_caption + is_text.any()
    assert 0 < with_caption < cut


def test_held_out_documents_make_no_lessons(run_folder, config):
    corpus = Corpus([run_folder], None, replace(config, heldout=0.3))
    held = np.flatnonzero(corpus.heldout)
    plain, taught = (Loader(corpus, held, replace(config, lessons=lessons), 0) for lessons in (0, 5))
    for one, other in zip(epoch(plain), epoch(taught), strict=True):
        assert np.array_equal(one.tokens, other.tokens)


def test_steps_walk_through_epochs_of_different_length(corpus, config):
    loader = Loader(corpus, np.arange(len(corpus)), replace(config, lessons=4, batch_rows=1), 0)
    lengths = [loader.batches(number) for number in range(6)]
    assert len(set(lengths)) > 1
    places = [loader.place(step) for step in range(sum(lengths))]
    assert places == [(number, batch) for number, length in enumerate(lengths) for batch in range(length)]
    assert all(len(loader.micro_batches(step, 0)) == 1 for step in range(sum(lengths)))


def test_shuffled_vision_keeps_everything_but_the_order_of_codes(corpus, config):
    loader = Loader(corpus, np.arange(len(corpus)), config, seed=0)
    rows = [loader.packing(0).row(r) for r in range(loader.packing(0).rows)]
    plain, shuffled = loader.build(rows), loader.build(rows, shuffle_vision=True)
    vision = plain.kinds == TokenKind.VISION
    assert np.array_equal(plain.targets[~vision], shuffled.targets[~vision])
    assert not np.array_equal(plain.targets[vision], shuffled.targets[vision])
    for one, other in zip(documents_in(plain), documents_in(shuffled), strict=True):
        assert np.array_equal(np.sort(one[1]), np.sort(other[1]))


def test_items_are_held_out_whole_and_of_every_kind(run_folder):
    corpus = Corpus([run_folder], None, DataConfig(heldout=0.001))
    assert sorted(corpus.kind[corpus.heldout]) == [0, 1, 2]
    twice = Corpus([run_folder, run_folder], None, DataConfig(heldout=0.3))
    assert np.array_equal(twice.heldout[:30], twice.heldout[30:])
    assert 3 <= twice.heldout[:30].sum() <= 16
    assert not Corpus([run_folder], None, DataConfig(heldout=0.0)).heldout.any()


def test_several_folders_are_read_as_one(run_folder, corpus, config):
    both = Corpus([run_folder, run_folder], None, config)
    assert len(both) == 60
    order = [31, 2, 59, 0]
    expected = corpus.read([1, 2, 29, 0])
    assert all(np.array_equal(a, b) for a, b in zip(both.read(order), expected, strict=True))


def test_documents_that_cannot_fit_are_left_out_and_counted(corpus, config):
    everything = np.arange(len(corpus))
    loader = Loader(corpus, everything, replace(config, context=24), seed=0)
    assert set(corpus.kind[loader.left_out]) == {0, 1}
    assert all((batch.kinds != TokenKind.VISION).all() for batch in epoch(loader))
    with pytest.raises(DataError, match="none of the 10 documents fits a context of 24"):
        Loader(corpus, np.flatnonzero(corpus.kind == 1), replace(config, context=24), seed=0)


def test_a_batch_that_cannot_be_shared_out_is_refused(corpus, config):
    with pytest.raises(ConfigError, match=r"batch_rows 4 is not a multiple of data.micro_rows 1 times 3 ranks"):
        Loader(corpus, np.arange(30), config, seed=0, ranks=3)


def test_folders_of_different_vocabularies_are_refused(run_folder, config, tmp_path, shard_writer):
    other = Vocabulary("bytes", 65)
    shard_writer(tmp_path, [documents.text_document(other, "x")], vocab=other)
    with pytest.raises(DataError, match="do not mean the same"):
        Corpus([run_folder, tmp_path], None, config)
