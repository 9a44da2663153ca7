from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_groups import count_decoded

from reelmill.errors import ConfigError, DataError
from reelmill.tokenize import documents
from reelmill.tokenize.documents import TokenKind, parse
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.batches import Contents, assemble
from reelmill.train.data.config import DataConfig, mixture
from reelmill.train.data.corpus import Corpus
from reelmill.train.data.loader import Loader
from reelmill.train.run import train

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


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(2, 900), max_size=4), min_size=1, max_size=3),
    st.sampled_from([5120, 4096, 18_432, 3_000]),
)
def test_padding_costs_little_whatever_the_context(rows, context):
    """A batch has the width of its fullest row, within two; the numbers in it are those of the whole context."""
    vocab = Vocabulary("bytes", 64)
    contents = [
        [Contents(number, np.full(size, number % 200, dtype=np.int32)) for number, size in enumerate(row)]
        for row in rows
    ]
    batch = assemble(vocab, contents, context, np.ones(3, dtype=np.float32))
    fullest = max(sum(size - 1 for size in row) for row in rows)
    columns = batch.tokens.shape[1]
    assert fullest <= columns <= context and context % columns == 0
    assert columns == context or columns % 256 == 0
    assert columns % 512 or columns < 2 * max(fullest, 1), "half of it would do"
    assert sum(batch.lengths) == batch.tokens.size
    padding = [length for length, document in zip(batch.lengths, batch.documents, strict=True) if document < 0]
    assert all(length <= 256 for length in padding)
    for row, sizes in enumerate(rows):
        real = sum(size - 1 for size in sizes)
        expected = [number % 200 for number, size in enumerate(sizes) for _ in range(size - 1)]
        assert batch.tokens[row, :real].tolist() == expected
        assert (batch.tokens[row, real:] == vocab.pad).all() and not batch.weights[row, real:].any()


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
    plain, with_synthetic = (
        Loader(corpus, everything, config, 0),
        Loader(corpus, everything, replace(config, lessons=3), 0),
    )
    drawn = []
    for number in range(2):
        unseen = visuals(with_synthetic, number)
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
    plain, with_synthetic = (Loader(corpus, held, replace(config, lessons=lessons), 0) for lessons in (0, 5))
    for one, other in zip(epoch(plain), epoch(with_synthetic), strict=True):
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
    with pytest.raises(
        DataError,
        match=r"none of 10 documents \(30 in all\) fits a context of 24: the shortest takes \d\d; raise data.context",
    ):
        Loader(corpus, np.flatnonzero(corpus.kind == 1), replace(config, context=24), seed=0)


def test_a_batch_that_cannot_be_shared_out_is_refused(corpus, config):
    with pytest.raises(ConfigError, match=r"batch_rows 4 is not a multiple of data.micro_rows 1 times 3 ranks"):
        Loader(corpus, np.arange(30), config, seed=0, ranks=3)


def test_folders_of_different_vocabularies_are_refused(run_folder, config, tmp_path, shard_writer):
    other = Vocabulary("bytes", 65)
    shard_writer(tmp_path, [documents.text_document(other, "x")], vocab=other)
    with pytest.raises(DataError, match="do not mean the same"):
        Corpus([run_folder, tmp_path], None, config)


def documents_of(loader, number=0):
    """doc number -> the ids of each of its appearances in an epoch."""
    found = {}
    for batch in epoch(loader, number):
        of_real = [document for document in batch.documents if document >= 0]
        for document, (_, ids, *_) in zip(of_real, documents_in(batch), strict=True):
            found.setdefault(document, []).append(ids)
    return found


def test_captions_are_left_out_of_images_and_videos_whose_caption_comes_first(corpus, config):
    loader = Loader(corpus, np.arange(len(corpus)), replace(config, context=300, caption_drop=0.5), seed=0)
    plain = Loader(corpus, np.arange(len(corpus)), replace(config, context=300), seed=0)
    dropped = []
    for number in range(3):
        bare = corpus.captions_dropped(0.5, 0, number)
        whole, found = documents_of(plain, number), documents_of(loader, number)
        assert whole.keys() == found.keys()
        for document in np.flatnonzero(corpus.kind != 2).tolist():
            (ids,) = found[document]
            read = parse(corpus.vocab, ids)
            (original,) = whole[document]
            if bare[document]:
                expected = parse(corpus.vocab, original)
                assert (read.caption, expected.caption_after) == ("", False)
                assert np.array_equal(read.codes, expected.codes)
                assert ids[1] == corpus.vocab.boi
            else:
                assert np.array_equal(ids, original)
        assert bare[corpus.kind != 2].sum() > 3
        assert not bare[corpus.kind == 2].any()
        dropped.append(bare.tobytes())
    assert len(set(dropped)) == 3


def test_a_video_without_caption_is_cut_into_parts_without_caption(corpus, config):
    loader = Loader(corpus, np.arange(len(corpus)), replace(config, caption_drop=1.0), seed=0)
    parts = {}
    for batch in epoch(loader):
        of_real = [document for document in batch.documents if document >= 0]
        for document, (_, ids, _, weights, kinds) in zip(of_real, documents_in(batch), strict=True):
            if corpus.kind[document] == 0:
                read = parse(corpus.vocab, ids)
                assert not read.caption or read.caption_after
                parts.setdefault(document, []).append(read.codes)
                assert (weights[kinds == TokenKind.VISION] == 0.5).all()
    assert any(len(codes) > 1 for codes in parts.values())
    for document, codes in parts.items():
        assert sum(map(len, codes)) == corpus.grid[document, 0]


def test_packing_knows_the_lengths_without_captions(corpus, config):
    images = np.flatnonzero(corpus.kind == 1)
    loader = Loader(corpus, images, replace(config, caption_drop=1.0), seed=0)
    slots = sum(batch.lengths[i] for batch in epoch(loader) for i, d in enumerate(batch.documents) if d >= 0)
    assert slots == loader.packing(0).pieces.size.sum()


def test_held_out_documents_keep_their_captions(run_folder, config):
    corpus = Corpus([run_folder], None, replace(config, heldout=0.3))
    assert not corpus.captions_dropped(1.0, 0, 0)[corpus.heldout].any()
    plain = replace(config, shares=[0.5], caption_drop=0.2, lessons=3).for_validation()
    assert plain == config


@pytest.fixture
def two_folders(tmp_path, shard_writer):
    """Of one vocabulary: 40 texts of 50 tokens, 30 of 20."""
    for name, count, size in (("long", 40, 48), ("short", 30, 18)):
        lists = [documents.text_document(Vocabulary("bytes", 64), f"{n:02}" + "x" * (size - 2)) for n in range(count)]
        shard_writer(tmp_path / name, lists)
    return [tmp_path / "long", tmp_path / "short"]


@pytest.mark.parametrize("shares", [[0.7, 0.3], [0.1, 0.9]])
def test_folders_are_mixed_by_their_share_of_the_tokens(two_folders, config, shares):
    config = replace(config, shares=shares)
    corpus = Corpus(two_folders, None, config)
    loader = Loader(corpus, np.arange(70), config, seed=0)
    total = [0, 0]
    for number in range(4):
        count = np.zeros(70)
        for document, pieces in documents_of(loader, number).items():
            count[document] = sum(len(ids) - 1 for ids in pieces) / (corpus.n_tokens[document] - 1)
        assert np.allclose(count, count.round()), "each appearance is whole, however it is cut"
        of_long, of_short = 50 * count[:40].sum(), 20 * count[40:].sum()
        assert abs(of_long - shares[0] * 2_600) < 50
        assert abs(of_short - shares[1] * 2_600) < 20
        total[0] += count[:40]
        total[1] += count[40:]
    for of_folder in total:
        assert of_folder.max() - of_folder.min() <= 1, "none comes twice before all have come"


def test_shares_do_not_belong_to_the_fingerprint_but_to_the_recipe(two_folders, toy_config, tmp_path):
    config = replace(toy_config, data=replace(toy_config.data, shares=[0.7, 0.3]), steps=2)
    train(config, two_folders, tmp_path / "run", until=1, log_fn=lambda _: None)
    with pytest.raises(ConfigError, match=r"data\.shares: \[0\.7, 0\.3\] -> \[0\.6, 0\.4\]"):
        changed = replace(config, data=replace(config.data, shares=[0.6, 0.4]))
        train(changed, two_folders, tmp_path / "run", log_fn=lambda _: None)
    train(config, two_folders, tmp_path / "run", log_fn=lambda _: None)


def test_a_small_memory_shuffles_in_windows_and_decodes_row_groups_once_or_twice(run_folder, config, monkeypatch):
    config = replace(config, shuffle_mb=1500 * 4 / 2**20)  # 1,500 of 3,000 ids; a row group has up to 500
    corpus = Corpus([run_folder], None, config)
    loader = Loader(corpus, np.arange(len(corpus)), config, seed=0)
    decoded = count_decoded(monkeypatch)
    orders = []
    for number in range(2):
        decoded.clear()
        found = documents_of(loader, number)
        assert sorted(found) == list(range(len(corpus)))
        assert len(decoded) <= 2 * len(corpus.row_group_tokens)
        orders.append(list(found))
    assert orders[0] != orders[1]


def test_a_corpus_holds_a_hundred_bytes_a_document(tmp_path, shard_writer):
    """So many that what a shard takes by itself does not count."""
    vocab = Vocabulary("bytes", 64)
    shard_writer(tmp_path, [documents.text_document(vocab, "ab")] * 2000)
    corpus = Corpus([tmp_path], None, DataConfig(caption_drop=0.1))
    (index,) = corpus._indexes
    arrays = [value for thing in (corpus, index) for value in vars(thing).values() if isinstance(value, np.ndarray)]
    held = index.columns.nbytes + sum(array.nbytes for array in arrays)
    # 36 of the doc_id, 60 of numbers.
    assert held < 120 * len(corpus)


def test_run_folders_and_shares_from_the_command_line(tmp_path):
    odd = tmp_path / "a=0.5"
    odd.mkdir()
    whole = mixture(["out/web=0.7", "out/film=3"])
    assert whole == ([Path("out/web"), Path("out/film")], [0.7, 3.0], ["", ""])
    assert mixture(["out/web", str(odd)]) == ([Path("out/web"), odd], [], ["", ""])
    assert mixture([f"{odd}=0.7"]) == ([odd], [0.7], [""])
    part = mixture(["out/web=0.7 where width = 512 AND height > 1", "out/film=3"])
    assert part == ([Path("out/web"), Path("out/film")], [0.7, 3.0], ["width = 512 AND height > 1", ""])
    assert mixture(["out/web WHERE a = 'x where y'"]) == ([Path("out/web")], [], ["a = 'x where y'"])
    with pytest.raises(ConfigError, match="1 of 2 run folders have a share"):
        mixture(["out/web=0.7", "out/film"])
    with pytest.raises(ConfigError, match="'half' is no share"):
        mixture(["out/web=half"])
