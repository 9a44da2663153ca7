"""Draws by a hash: they are pinned, since held-out items, shares of a dump and caption places depend on them."""

from reelmill.draws import uniform, uniform_of


def test_draws_are_those_of_every_run_before():
    assert uniform("item 7") == uniform_of("860b19ff06cde") == 0.5236068961738094


def test_shares_are_even():
    drawn = [uniform(str(n)) for n in range(10_000)]
    assert all(0 <= number < 1 for number in drawn)
    for share in (0.01, 0.2, 0.5):  # 4 standard deviations of a binomial share
        assert abs(sum(number < share for number in drawn) / 10_000 - share) < 4 * (share * (1 - share) / 10_000) ** 0.5
