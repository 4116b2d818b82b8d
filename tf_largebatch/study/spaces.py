"""Search spaces, and quasi-random points in them.

A space is data: for each hyperparameter a scale and its ends.

>>> space = parse({"learning_rate": {"scale": "log", "low": 0.01, "high": 1}})
>>> [round(point["learning_rate"], 4) for point in points(space, 3, seed=0)]
[0.2597, 0.026, 0.8212]
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scipy.stats import qmc

from tf_largebatch.errors import UserError

# Each scale: its function and the inverse.
SCALES: Mapping[str, tuple[Callable[[float], float], ...]] = {
    "linear": (lambda x: x, lambda y: y),
    "log": (math.log, math.exp),
    # For momentum: what is spread evenly is log(1 - momentum).
    "one_minus_log": (
        lambda x: -math.log(1 - x),
        lambda y: 1 - math.exp(-y),
    ),
}


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One hyperparameter's range and scale.

    Attributes:
        name: of the hyperparameter.
        scale: a key of :data:`SCALES`.
        low: lower end, included.
        high: upper end, included.
    """

    name: str
    scale: str
    low: float
    high: float

    def value(self, fraction: float) -> float:
        """Returns the value a fraction of the way up the scale."""
        to_scale, from_scale = SCALES[self.scale]
        start, end = to_scale(self.low), to_scale(self.high)
        return from_scale(start + fraction * (end - start))


def parse(
    config: Mapping[str, Any], where: str = "the space"
) -> list[Dimension]:
    """Returns the dimensions that a space's YAML mapping describes.

    Args:
        config: ``{name: {"scale": ..., "low": ..., "high": ...}}``.
        where: what messages call the place, such as a file's name.

    Raises:
        UserError: no dimension, an unknown key or scale, ends that are no
            numbers or in the wrong order, a log scale that reaches 0.
    """
    if not isinstance(config, Mapping) or not config:
        raise UserError(f"{where} has no free hyperparameter; add one")
    return [dimension(name, entry, where) for name, entry in config.items()]


def dimension(name: str, entry: Any, where: str) -> Dimension:
    """Returns one checked dimension; see :func:`parse`."""
    here = f"{name} in {where}"
    if not isinstance(entry, Mapping) or set(entry) != {"scale", "low", "high"}:
        raise UserError(
            f"{here} must have the keys scale, low and high; it is {entry!r}"
        )
    scale, low, high = entry["scale"], entry["low"], entry["high"]
    if not isinstance(scale, str) or scale not in SCALES:
        raise UserError(
            f"{here} has the scale {scale!r}; use one of {', '.join(SCALES)}"
        )
    for end in (low, high):
        if not is_finite_number(end):
            raise UserError(f"{here} has the end {end!r}; give a finite number")
    if not low < high:
        raise UserError(
            f"{here} has low {low} not below high {high}; exchange them"
        )
    if scale == "log" and low <= 0:
        raise UserError(
            f"{here} has a log scale that reaches {low}; "
            "start above 0 or use scale: linear"
        )
    if scale == "one_minus_log" and high >= 1:
        raise UserError(
            f"{here} has a one_minus_log scale that reaches {high}; end below 1"
        )
    return Dimension(name, scale, float(low), float(high))


def is_finite_number(value: Any) -> bool:
    """Whether an end is a number, which booleans, NaN and infinity are not."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)


def points(
    space: Sequence[Dimension], count: int, seed: int
) -> list[dict[str, float]]:
    """Returns quasi-random points: SciPy's scrambled Halton sequence.

    More points of the same seed continue the sequence, and spaces of the same
    number of dimensions get the same points of the unit cube, so that the
    luck of the draw is shared by the rows that are compared.
    """
    sequence = qmc.Halton(len(space), scramble=True, rng=seed)
    return [
        {axis.name: axis.value(u) for axis, u in zip(space, point)}
        for point in sequence.random(count)
    ]
