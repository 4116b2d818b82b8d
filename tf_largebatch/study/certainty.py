"""How sure a comparison is: intervals, and what fewer seeds would have said.

All of it is about runs that differ by their seed alone. Values are those of
the metric, one a run; a run that diverged has its value like any other, which
is infinite on the worse side where the metric was no number.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9999
# Of fewer runs a bootstrap interval holds far less often than it says: of two
# normal ones in 54 of 100 cases, of three in 73.
LEAST = 5
# Stands for infinity, next to which NumPy's quantiles and differences are NaN.
# No float32 is near, and its square is no infinity either.
HUGE = 1e150
# MLPerf's rule for vision: of so many runs, without the fastest and the
# slowest.
MLPERF_RUNS = 5

Values = Sequence[float]
Interval = tuple[float, float]


def median_interval(values: Values) -> Interval | None:
    """Returns the bootstrap interval of the median, by percentiles.

    Args:
        values: of a row, at least :data:`LEAST`.

    Returns:
        Its ends, at a confidence of 95 %; None of fewer values, or where an
        end is not finite.

    >>> median_interval([0.96, 0.97, 0.97, 0.98, 0.99])
    (0.96, 0.99)
    """
    return bootstrap([values], np.median, CONFIDENCE)


def difference_interval(
    one: Values, other: Values, comparisons: int = 1
) -> Interval | None:
    """Returns the bootstrap interval of the difference of two medians.

    Args:
        one: values of a row, at least :data:`LEAST`.
        other: values of another, drawn anew independently of the first.
        comparisons: how many differences are looked at together. The more,
            the wider the interval is (Bonferroni), as one of many may be
            without 0 by chance.

    Returns:
        The ends, at a confidence of 95 % for all together, of the median of
        ``one`` less that of ``other``; None where either has fewer values,
        or where an end is not finite.

    >>> difference_interval([3.0] * 5, [1.0] * 5)
    (2.0, 2.0)
    """
    return bootstrap(
        [one, other],
        lambda x, y, axis: np.median(x, axis) - np.median(y, axis),
        1 - (1 - CONFIDENCE) / comparisons,
    )


def bootstrap(
    samples: Sequence[Values], statistic: object, confidence: float
) -> Interval | None:
    """Returns SciPy's percentile bootstrap; always the same draws.

    The values are sorted first, so that their order is of no account.
    """
    if min(map(len, samples)) < LEAST:
        return None
    result = stats.bootstrap(
        [np.sort(tamed(values)) for values in samples],
        statistic,
        vectorized=True,
        method="percentile",
        confidence_level=confidence,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    low, high = map(float, untamed(np.array(result.confidence_interval)))
    return (low, high) if np.isfinite([low, high]).all() else None


def quantiles(
    values: Values | np.ndarray, shares: Sequence[float], axis: int = 0
) -> np.ndarray:
    """Returns quantiles of values of which some may be infinite.

    >>> quantiles([1.0, 2.0, np.inf], [0, 0.5, 0.75]).tolist()
    [1.0, 2.0, inf]
    """
    return untamed(np.quantile(tamed(values), shares, axis=axis))


def tamed(values: Values | np.ndarray) -> np.ndarray:
    """Returns values with something large in infinity's place."""
    return np.clip(np.asarray(values, np.float64), -HUGE, HUGE)


def untamed(figures: np.ndarray) -> np.ndarray:
    """Returns what was computed from such values, with infinity again."""
    infinite = np.abs(figures) > HUGE / 1e9
    return np.where(infinite, np.copysign(np.inf, figures), figures)


def flip_chance(better: Values, worse: Values, seeds: int) -> float | None:
    """Returns how often fewer seeds would turn two rows round.

    The chance, exactly, that the median of so many runs drawn with
    replacement from ``better`` is worse than that of as many from ``worse``;
    equal medians count half.

    Args:
        better: values of the row that is ahead; higher is better, so negate
            a loss.
        worse: values of the other.
        seeds: how many runs; odd, so that the median is one of them.

    Raises:
        ValueError: ``seeds`` is not odd and positive.

    >>> flip_chance([2.0, 4.0], [1.0, 3.0], seeds=1)
    0.25
    """
    if seeds < 1 or seeds % 2 == 0:
        raise ValueError(f"seeds must be odd and positive; received {seeds}")
    if not better or not worse:
        return None
    ours, theirs = np.sort(tamed(better)), np.sort(tamed(worse))
    weights = np.outer(
        median_chances(len(ours), seeds), median_chances(len(theirs), seeds)
    )
    gap = ours[:, np.newaxis] - theirs
    return float(weights[gap < 0].sum() + weights[gap == 0].sum() / 2)


def median_chances(count: int, draws: int) -> np.ndarray:
    """Returns how likely each of the sorted values is to be the median.

    The median of ``draws`` values, drawn with replacement, is at most the
    j-th of ``count`` where more than half of the draws are.

    >>> median_chances(2, 3)
    array([0.5, 0.5])
    """
    shares = np.arange(count + 1) / count
    return np.diff(stats.binom.sf(draws // 2, draws, shares))


def mlperf_mean(steps_to_target: Sequence[float | None]) -> float | None:
    """Returns MLPerf's figure for a row: the mean of three runs out of five.

    Of the first five runs the fastest and the slowest are left out. One that
    never reached the target is the slowest.

    Args:
        steps_to_target: of every run, in the order of the seeds; None where
            it did not reach the target.

    Returns:
        Steps; None with fewer than five runs, or where two of the first five
        did not reach the target.

    >>> mlperf_mean([60, 54, None, 66, 72])
    66.0
    """
    first = [
        np.inf if steps is None else steps
        for steps in steps_to_target[:MLPERF_RUNS]
    ]
    if len(first) < MLPERF_RUNS:
        return None
    middle = float(np.mean(np.sort(first)[1:-1]))
    return middle if np.isfinite(middle) else None
