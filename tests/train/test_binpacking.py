import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.train.data.binpacking import best_fit, bin_pack, even_out, fewest_rows


@settings(max_examples=200, deadline=None)
@given(context=st.integers(1, 90), shares=st.lists(st.floats(0.01, 1.0), max_size=120))
def test_every_piece_has_a_row_with_room_and_the_bound_holds(context, shares):
    sizes = np.array([max(1, int(share * context)) for share in shares], dtype=np.int64)
    bound = fewest_rows(sizes, context)
    for row, rows in (best_fit(sizes, context), bin_pack(sizes, context)):
        loads = np.bincount(row, weights=sizes, minlength=rows)
        assert len(loads) == rows >= bound
        assert loads.max(initial=0) <= context
        assert loads.min(initial=1) > 0, "no row is empty"


@settings(max_examples=100, deadline=None)
@given(context=st.integers(4, 200), rows=st.integers(1, 30), seed=st.integers(0, 99), whole=st.booleans())
def test_the_bound_is_never_above_a_packing_that_exists(context, rows, seed, whole):
    """Rows cut at random into pieces; without `whole` one piece of each is taken away."""
    rng = np.random.default_rng(seed)
    pieces = []
    for _ in range(rows):
        cuts = np.unique(rng.integers(1, context, rng.integers(1, 6)))
        lengths = np.diff(np.concatenate(([0], cuts, [context])))
        pieces += lengths.tolist()[0 if whole else 1 :]
    assert fewest_rows(np.array(pieces, dtype=np.int64), context) <= rows


def best_fit_one_by_one(sizes, context):
    """The textbook's loop: each piece into the row with the least sufficient space, the newest of equals."""
    free, row, changed = [], np.zeros(len(sizes), dtype=np.int64), []
    for clock, piece in enumerate(np.argsort(-sizes, kind="stable")):
        fits = [r for r in range(len(free)) if free[r] >= sizes[piece]]
        target = min(fits, key=lambda r: (free[r], -changed[r]), default=len(free))
        if target == len(free):
            free.append(context)
            changed.append(clock)
        row[piece] = target
        free[target] -= sizes[piece]
        changed[target] = clock
    return row, len(free)


@settings(max_examples=100, deadline=None)
@given(context=st.integers(1, 60), shares=st.lists(st.floats(0.01, 1.0), max_size=60))
def test_placing_equal_sizes_together_is_best_fit(context, shares):
    sizes = np.array([max(1, int(share * context)) for share in shares], dtype=np.int64)
    (row, rows), (expected, fewest) = best_fit(sizes, context), best_fit_one_by_one(sizes, context)
    assert rows == fewest
    loads, wanted = (np.sort(np.bincount(r, weights=sizes, minlength=rows)) for r in (row, expected))
    assert np.array_equal(loads, wanted)


def uniform(low, high, count):
    return np.random.default_rng(0).integers(low, high, count)


MIXES = {  # sizes, context
    "images of Emu3 in stage 2": (uniform(4_190, 5_000, 6_000), 131_072),
    "videos of 5 to 30 latent frames and images": (
        np.append(4_161 * uniform(5, 31, 800) + uniform(30, 300, 800), uniform(4_190, 5_000, 2_000)),
        131_072,
    ),
    "images of Emu3 in stage 1": (uniform(4_190, 5_100, 3_000), 5_120),
    "images of 128 pixels": (uniform(270, 400, 20_000), 5_120),
    "any size up to half a row": (uniform(300, 2_700, 5_000), 5_120),
    "three or four to a row": (uniform(1_000, 2_000, 5_000), 5_120),
    "one size": (np.full(1_000, 1_200), 5_120),
}


@pytest.mark.parametrize("mix", MIXES)
def test_rows_are_within_half_a_percent_of_the_fewest_possible(mix):
    sizes, context = MIXES[mix]
    _, rows = bin_pack(sizes, context)
    assert rows <= 1.005 * fewest_rows(sizes, context)


def test_the_bound_counts_pieces_that_cannot_share_a_row():
    assert fewest_rows(np.full(10, 51), 100) == 10
    assert fewest_rows(np.full(9, 34), 100) == 5  # two to a row
    assert fewest_rows(np.array([], dtype=np.int64), 100) == 0


def test_what_cannot_be_evened_out_is_none():
    assert even_out(np.full(3, 60), 2, 100, np.random.default_rng(0)) is None
    row = even_out(np.array([60, 60, 40, 40]), 2, 100, np.random.default_rng(0))
    assert np.bincount(row, weights=[60, 60, 40, 40]).tolist() == [100, 100]
