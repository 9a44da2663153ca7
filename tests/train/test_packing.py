import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.errors import DataError
from reelmill.train.data.binpacking import best_fit, bin_pack
from reelmill.train.data.packing import Pieces, pack


def texts_of(sizes, first_document=0):
    sizes = np.asarray(sizes, dtype=np.int64)
    documents = np.arange(first_document, first_document + len(sizes), dtype=np.int64)
    return Pieces(documents, np.zeros_like(sizes), sizes, sizes)


def whole(sizes):
    sizes = np.asarray(sizes, dtype=np.int64)
    return Pieces.unsplit(np.arange(len(sizes), dtype=np.int64), sizes)


@settings(max_examples=200, deadline=None)
@given(
    context=st.integers(8, 60),
    shares=st.lists(st.floats(0.02, 1.0), max_size=40),
    texts=st.lists(st.integers(1, 200), max_size=30),
    seed=st.integers(0, 5),
)
def test_every_prediction_once_and_nothing_whole_is_cut(context, shares, texts, seed):
    sizes = [max(1, int(share * context)) for share in shares]
    packing = pack(whole(sizes), texts_of(texts, 1000), context, np.random.default_rng(seed))
    seen = {1000 + i: np.zeros(n, dtype=int) for i, n in enumerate(texts)}
    whole_seen = []
    for r in range(packing.rows):
        row = packing.row(r)
        assert 0 < row.size.sum() <= context
        for document, first, stop, size in zip(row.document, row.first, row.stop, row.size, strict=True):
            if document < 1000:
                assert size == sizes[document]
                whole_seen.append(document)
            else:
                assert stop - first == size > 0
                seen[document][first:stop] += 1
    assert sorted(whole_seen) == list(range(len(sizes)))
    assert all((counts == 1).all() for counts in seen.values())


def test_text_fills_the_gaps():
    rng = np.random.default_rng(0)
    images = whole(np.full(300, 4_200))  # a 512 x 512 image of Emu3 with its caption
    texts = texts_of(rng.integers(20, 3_000, 400), 1000)
    packing = pack(images, texts, 5_120, rng)
    assert texts.size.sum() / (texts.size.sum() + images.size.sum()) > 0.25
    assert packing.fill >= 0.999


def test_without_text_rows_are_as_few_as_bin_packing_finds():
    sizes = np.random.default_rng(0).integers(4_190, 5_000, 4_000)  # images of Emu3 in its long context
    packing = pack(whole(sizes), texts_of([]), 131_072, np.random.default_rng(0))
    assert packing.rows == bin_pack(sizes, 131_072)[1] < best_fit(sizes, 131_072)[1]
    little_text = pack(whole(sizes), texts_of([2_000], 10_000), 131_072, np.random.default_rng(0))
    assert little_text.rows == packing.rows


def test_a_piece_longer_than_the_context_is_refused():
    with pytest.raises(DataError, match="11 slots cannot stay whole in a context of 10"):
        pack(whole([11]), texts_of([]), 10, np.random.default_rng(0))


def test_rows_depend_on_the_seed_only():
    sizes = np.random.default_rng(1).integers(1, 50, 200)
    one, two, other = (pack(whole(sizes), texts_of([70, 80], 1000), 64, np.random.default_rng(s)) for s in (3, 3, 4))
    assert np.array_equal(one.pieces.document, two.pieces.document)
    assert not np.array_equal(one.pieces.document, other.pieces.document)
