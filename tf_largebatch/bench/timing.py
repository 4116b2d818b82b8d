"""What benchmarks say of a number of measurements."""

from collections.abc import Mapping, Sequence

import numpy as np

from tf_largebatch.study import summary

QUARTILES = ("q1", "median", "q3")


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Returns median and quartiles."""
    found = np.quantile(values, (0.25, 0.5, 0.75))
    return dict(zip(QUARTILES, map(float, found)))


def spread(
    rounds: Sequence[Mapping[str, float]],
) -> dict[str, dict[str, float | None]]:
    """Returns median, quartiles and ends of all rounds, by clock."""
    return {
        clock: summary.five_numbers([each[clock] for each in rounds])
        for clock in rounds[0]
    }
