"""Intervals and chances, against enumeration and cases done by hand."""

import itertools
import math

import numpy as np
import pytest

from tf_largebatch.study import statistics

FIVE = [0.91, 0.95, 0.96, 0.97, 0.99]


def draws(values, count):
    """Returns the medians of all equally likely draws with replacement."""
    product = itertools.product(values, repeat=count)
    return np.array([np.median(draw) for draw in product])


def interval_of(medians):
    return np.quantile(medians, [0.025, 0.975], method="inverted_cdf")


def test_a_medians_interval_is_that_of_all_draws():
    """With five runs there are 3,125 of them, so the ends are exact."""
    found = statistics.median_interval(FIVE)
    assert found == pytest.approx(interval_of(draws(FIVE, 5)))
    assert found == (0.91, 0.99)


def test_a_differences_interval_is_that_of_all_draws():
    one, other = [1.0, 2.0, 4.0, 8.0], [0.0, 0.1, 0.3]
    gaps = draws(one, 4)[:, np.newaxis] - draws(other, 3)
    found = statistics.difference_interval(one, other)
    assert found == pytest.approx(interval_of(gaps.ravel()), abs=0.11)
    low, high = statistics.difference_interval(other, one)
    assert (-high, -low) == pytest.approx(found, abs=0.11)


def test_an_interval_is_the_same_every_time():
    assert statistics.median_interval(FIVE) == statistics.median_interval(FIVE)


def test_more_runs_narrow_the_interval():
    values = list(np.random.default_rng(0).normal(size=400))
    few = np.ptp(statistics.median_interval(values[:10]))
    assert np.ptp(statistics.median_interval(values)) < few / 3


@pytest.mark.parametrize("values", [[], [0.5]])
def test_one_run_has_no_interval(values):
    assert statistics.median_interval(values) is None
    assert statistics.difference_interval(FIVE, values) is None


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_the_chance_of_a_flip_is_that_of_all_draws(seeds):
    ours, theirs = [3.0, 5.0, 6.0], [1.0, 4.0, 5.0]
    gaps = draws(ours, seeds)[:, np.newaxis] - draws(theirs, seeds)
    expected = np.mean(gaps < 0) + np.mean(gaps == 0) / 2
    found = statistics.flip_chance(ours, theirs, seeds)
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_flip_by_hand():
    """3 is above 5 never; 6 above both; a run of each: 1 in 4, and a tie."""
    assert statistics.flip_chance([3, 6], [2, 5], 1) == 0.25
    assert statistics.flip_chance([3, 6], [2, 3], 1) == 0.125


def test_equal_rows_flip_half_the_time():
    assert statistics.flip_chance(FIVE, FIVE, 3) == pytest.approx(0.5)


def test_rows_apart_never_flip():
    assert statistics.flip_chance([2, 3], [0, 1], 1) == 0
    assert statistics.flip_chance([0, 1], [2, 3], 1) == 1


def test_the_order_of_the_runs_does_not_matter():
    ours, theirs = [3.0, 5.0, 6.0], [1.0, 4.0, 5.5]
    assert statistics.flip_chance(
        ours[::-1], theirs[::-1], 3
    ) == statistics.flip_chance(ours, theirs, 3)


def test_no_runs_no_chance():
    assert statistics.flip_chance([], FIVE, 1) is None


@pytest.mark.parametrize("seeds", [0, 2, -1])
def test_the_median_of_an_even_number_is_refused(seeds):
    with pytest.raises(ValueError, match=f"received {seeds}"):
        statistics.flip_chance(FIVE, FIVE, seeds)


@pytest.mark.parametrize("count, draws_", [(1, 3), (4, 1), (5, 5), (7, 9)])
def test_some_value_is_the_median(count, draws_):
    chances = statistics.median_chances(count, draws_)
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
    assert statistics.mlperf_mean(steps) == expected
