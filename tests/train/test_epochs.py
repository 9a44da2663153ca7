from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.errors import ConfigError, DataError
from reelmill.train.data.epochs import Stream, epoch_quotas, windows


def random_of(seed):
    return lambda stream, number: np.random.default_rng([seed, stream, number])


@st.composite
def supplies(draw):
    """Streams of documents of 1 to 50 tokens (0: left out) in row groups of several, and what each row group holds."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    streams, row_group_tokens, first, row_groups = [], [], 0, 0
    for _ in range(draw(st.integers(1, 3))):
        count = int(rng.integers(1, 60))
        tokens = rng.integers(0, 51, count)
        tokens[0] = 7
        block = row_groups + np.sort(rng.integers(0, 1 + count // 5, count))
        streams.append(Stream(np.arange(first, first + count), tokens, block))
        first, row_groups = first + count, int(block.max()) + 1
    for number in range(row_groups):
        row_group_tokens.append(sum(int(s.tokens[s.row_group_id == number].sum()) for s in streams))
    return streams, np.array(row_group_tokens)


@settings(max_examples=150, deadline=None)
@given(supplies(), st.data(), st.sampled_from([60, 400, 10**9]), st.integers(0, 3))
def test_every_stream_gives_its_stretch_and_no_document_comes_twice_before_all_have_come(made, data, most, seed):
    streams, row_group_tokens = made
    ratio = st.sampled_from([0.1, 0.5, 1.0, 4.0])
    shares = data.draw(st.lists(ratio, min_size=len(streams), max_size=len(streams)))
    wanted = epoch_quotas([int(s.tokens.sum()) for s in streams], shares)
    seen = Counter()
    for epoch in range(4):
        found = np.concatenate(windows(streams, wanted, epoch, row_group_tokens, most, random_of(seed)))
        seen.update(found.tolist())
        for stream, want in zip(streams, wanted, strict=True):
            given_tokens = sum(int(stream.tokens[d - stream.documents[0]]) for d in found if d in stream.documents)
            assert abs(given_tokens - want) < 51, "up to the document that stands at the edge"
            counts = [seen[d] for d, n in zip(stream.documents.tolist(), stream.tokens.tolist(), strict=True) if n]
            assert max(counts) - min(counts) <= 1


@settings(max_examples=100, deadline=None)
@given(supplies(), st.integers(30, 500), st.integers(0, 3))
def test_without_shares_an_epoch_is_every_document_once_in_windows_that_fit(made, most, seed):
    streams, row_group_tokens = made
    wanted = epoch_quotas([int(s.tokens.sum()) for s in streams], [])
    row_group_of = np.concatenate([s.row_group_id for s in streams])
    for epoch in range(2):
        of_epoch = windows(streams, wanted, epoch, row_group_tokens, most, random_of(seed))
        assert sorted(np.concatenate(of_epoch).tolist()) == list(range(len(row_group_of)))
        for window in of_epoch:
            assert (np.diff(window) >= 0).all()
            # Each stream may have a row group cut off at either end of the window.
            slack = 2 * len(streams) * row_group_tokens.max()
            assert row_group_tokens[np.unique(row_group_of[window])].sum() <= most + slack


def test_windows_have_their_proportion_of_every_stream():
    texts = Stream(np.arange(1_000), np.full(1_000, 10), np.arange(1_000) // 10)
    images = Stream(np.arange(1_000, 1_100), np.full(100, 40), 100 + np.arange(100) // 2)
    row_group_tokens = np.concatenate((np.full(100, 100), np.full(50, 80)))
    wanted = epoch_quotas([10_000, 4_000], [3, 1])
    assert wanted == [10_500, 3_500]
    of_epoch = windows([texts, images], wanted, 0, row_group_tokens, 1_500, random_of(0))
    assert len(of_epoch) > 5
    for window in of_epoch:
        text, image = 10 * (window < 1_000).sum(), 40 * (window >= 1_000).sum()
        assert text / (text + image) == pytest.approx(0.75, abs=0.03)


def test_epochs_differ_and_seeds_do():
    stream = Stream(np.arange(100), np.full(100, 10), np.arange(100) // 5)
    args = (np.full(20, 50), 200)
    first, again, next_epoch, other = (
        windows([stream], [1_000], epoch, *args, random_of(seed)) for epoch, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    assert [w.tolist() for w in first] == [w.tolist() for w in again]
    assert [w.tolist() for w in first] != [w.tolist() for w in next_epoch]
    assert [w.tolist() for w in first] != [w.tolist() for w in other]


def test_shares_that_are_none_are_refused():
    for shares in ([1.0], [1.0, 0.0], [1.0, -2.0], [float("inf"), 1.0], [float("nan"), 1.0]):
        with pytest.raises(ConfigError, match="one positive number for each"):
            epoch_quotas([10, 20], shares)
    with pytest.raises(DataError, match=r"run folder 2 is to give 0\.3 but has no documents"):
        epoch_quotas([10, 0], [0.7, 0.3])
