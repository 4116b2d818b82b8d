"""Intervals and chances, against enumeration and cases done by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from tf_largebatch.study import certainty

FIVE = [0.91, 0.95, 0.96, 0.97, 0.99]


def draws(values, count):
    """Returns the medians of all equally likely draws with replacement."""
    product = itertools.product(values, repeat=count)
    return np.array([np.median(draw) for draw in product])


def interval_of(medians, outside=0.05):
    ends = [outside / 2, 1 - outside / 2]
    return np.quantile(medians, ends, method="inverted_cdf")


def test_a_medians_interval_is_that_of_all_draws():
    """With five runs there are 3,125 of them, so the ends are exact."""
    found = certainty.median_interval(FIVE)
    assert found == pytest.approx(interval_of(draws(FIVE, 5)))
    assert found == (0.91, 0.99)


def test_a_differences_interval_is_that_of_all_draws():
    one, other = [1.0, 2.0, 4.0, 8.0, 9.0], [0.0, 0.1, 0.3, 0.7, 0.8]
    gaps = draws(one, 5)[:, np.newaxis] - draws(other, 5)
    found = certainty.difference_interval(one, other)
    assert found == pytest.approx(interval_of(gaps.ravel()), abs=0.11)
    low, high = certainty.difference_interval(other, one)
    assert (-high, -low) == pytest.approx(found, abs=0.11)


def test_the_interval_of_one_of_many_differences_is_wider():
    """Bonferroni's: each of ten holds at 99.5 %."""
    one, other = [1.0, 2.0, 4.0, 8.0, 9.0], [0.0, 0.1, 0.3, 0.7, 0.8]
    gaps = draws(one, 5)[:, np.newaxis] - draws(other, 5)
    found = certainty.difference_interval(one, other, comparisons=10)
    assert found == pytest.approx(interval_of(gaps.ravel(), 0.005), abs=0.11)
    low, high = certainty.difference_interval(one, other)
    assert found[0] < low and high < found[1]


def test_equal_rows_are_seldom_told_apart():
    """Eight rows of five seeds: the best from another, in 100 studies."""
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(100):
        rows = random.normal(size=(8, 5))
        best, *others = rows[np.argsort(-np.median(rows, 1))]
        intervals = [
            certainty.difference_interval(best, other, len(others))
            for other in others[-3:]
        ]
        wrong += any(low > 0 for low, _ in intervals)
    assert 0 < wrong < 20


def test_an_interval_is_the_same_every_time():
    assert certainty.median_interval(FIVE) == certainty.median_interval(FIVE)


def test_an_interval_does_not_depend_on_the_order():
    one, other = np.random.default_rng(0).normal(size=(2, 9))
    expected = certainty.difference_interval(one, other)
    assert certainty.difference_interval(one[::-1], other) == expected
    assert certainty.difference_interval(one, np.roll(other, 4)) == expected


@pytest.mark.parametrize("worst", [np.inf, -np.inf])
def test_runs_without_a_number_are_the_worst_ones(worst):
    """One in 400 is in no end of the interval; one in three is in one."""
    many = list(np.random.default_rng(0).normal(size=399))
    low, high = certainty.median_interval([*many, worst])
    assert certainty.median_interval([*many, 9e9 * np.sign(worst)]) == (
        low,
        high,
    )
    few = [1.0, 2.0, 3.0, worst, worst]
    assert certainty.median_interval(few) is None
    assert certainty.difference_interval(few, FIVE) is None
    assert certainty.difference_interval(FIVE, [worst] * 5) is None


def test_no_warning_of_infinite_values(recwarn):
    certainty.difference_interval([1.0] * 4 + [np.inf], [np.inf] * 5)
    certainty.flip_chance([1.0, -np.inf], [-np.inf], 3)
    certainty.quantiles([-np.inf, np.inf], [0.5])
    assert not list(recwarn)


def test_quantiles_with_infinite_ends():
    values = [np.inf, 1.0, 3.0, -np.inf, 2.0]
    found = certainty.quantiles(values, [0, 0.25, 0.5, 0.75, 0.8, 1])
    assert found.tolist() == [-np.inf, 1, 2, 3, np.inf, np.inf]
    table = np.array([[1.0, np.inf], [3.0, np.nan]])
    (middle,) = certainty.quantiles(table, [0.5])
    assert middle[0] == 2 and np.isnan(middle[1])


def test_more_runs_narrow_the_interval():
    values = list(np.random.default_rng(0).normal(size=400))
    few = np.ptp(certainty.median_interval(values[:10]))
    assert np.ptp(certainty.median_interval(values)) < few / 3


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.6, 0.7, 0.8]])
def test_few_runs_have_no_interval(values):
    assert certainty.median_interval(values) is None
    assert certainty.difference_interval(FIVE, values) is None


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_the_chance_of_a_flip_is_that_of_all_draws(seeds):
    ours, theirs = [3.0, 5.0, 6.0], [1.0, 4.0, 5.0]
    gaps = draws(ours, seeds)[:, np.newaxis] - draws(theirs, seeds)
    expected = np.mean(gaps < 0) + np.mean(gaps == 0) / 2
    found = certainty.flip_chance(ours, theirs, seeds)
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_flip_by_hand():
    """3 is above 5 never; 6 above both; a run of each: 1 in 4, and a tie."""
    assert certainty.flip_chance([3, 6], [2, 5], 1) == 0.25
    assert certainty.flip_chance([3, 6], [2, 3], 1) == 0.125


def test_a_flip_of_one_seed_is_mann_and_whitneys_statistic():
    """SciPy's U counts the pairs in which the second is ahead, ties half."""
    random = np.random.default_rng(0)
    ours, theirs = random.integers(0, 9, 11), random.integers(0, 7, 13)
    pairs = stats.mannwhitneyu(theirs, ours).statistic
    found = certainty.flip_chance([*map(float, ours)], [*theirs], 1)
    assert found == pytest.approx(pairs / (11 * 13), rel=1e-12)


def test_two_runs_without_a_number_are_a_tie():
    lost = -math.inf
    assert certainty.flip_chance([lost, 1], [lost, 0], 1) == 0.375
    assert certainty.flip_chance([lost], [lost], 3) == 0.5


def test_equal_rows_flip_half_the_time():
    assert certainty.flip_chance(FIVE, FIVE, 3) == pytest.approx(0.5)


def test_rows_apart_never_flip():
    assert certainty.flip_chance([2, 3], [0, 1], 1) == 0
    assert certainty.flip_chance([0, 1], [2, 3], 1) == 1


def test_the_order_of_the_runs_does_not_matter():
    ours, theirs = [3.0, 5.0, 6.0], [1.0, 4.0, 5.5]
    assert certainty.flip_chance(
        ours[::-1], theirs[::-1], 3
    ) == certainty.flip_chance(ours, theirs, 3)


def test_no_runs_no_chance():
    assert certainty.flip_chance([], FIVE, 1) is None


@pytest.mark.parametrize("seeds", [0, 2, -1])
def test_the_median_of_an_even_number_is_refused(seeds):
    with pytest.raises(ValueError, match=f"received {seeds}"):
        certainty.flip_chance(FIVE, FIVE, seeds)


@pytest.mark.parametrize("count, draws_", [(1, 3), (4, 1), (5, 5), (7, 9)])
def test_some_value_is_the_median(count, draws_):
    chances = certainty.median_chances(count, draws_)
    assert math.isclose(chances.sum(), 1)
    np.testing.assert_allclose(chances, chances[::-1], atol=1e-15)


@pytest.mark.parametrize(
    "steps, expected",
    [
        ([10, 20, 30, 40, 90], 30),
        ([90, 40, 10, 30, 20], 30),
        ([10, 20, 30, 40, None], 30),
        ([10, 20, 30, 40, 90, 1, 1], 30),
        ([10, 20, 30, None, None], None),
        ([10, 20, 30, 40], None),
        ([], None),
    ],
)
def test_mlperf_leaves_out_the_fastest_and_the_slowest(steps, expected):
    assert certainty.mlperf_mean(steps) == expected
