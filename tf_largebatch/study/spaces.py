"""Search spaces, and quasi-random points in them.

A space is data: for each hyperparameter a scale and its ends, or a choice.

- ``linear``, ``log`` and ``one_minus_log`` (for momentum: log(1 - momentum)
  is spread evenly) need ``low`` and ``high``, both included;
- ``integer`` needs them too, as integers;
- ``choice`` needs ``values``;
- ``below`` ties a hyperparameter to one that is named before it, or to
  ``steps``, the length of the run: its upper end is then no higher than that,
  and an integer is below it.

>>> space = parse({"learning_rate": {"scale": "log", "low": 0.01, "high": 1}})
>>> [round(point["learning_rate"], 4) for point in points(space, 3, seed=0)]
[0.2597, 0.026, 0.8212]
>>> space = parse(
...     {"warmup_steps": {"scale": "integer", "low": 0, "high": 900,
...                       "below": "steps"}})
>>> [point["warmup_steps"] for point in points(space, 3, 0, {"steps": 100})]
[70, 20, 95]
"""

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from scipy.stats import qmc

from tf_largebatch.errors import UserError

# Each scale: its function and the inverse.
SCALES: Mapping[str, tuple[Callable[[float], float], ...]] = {
    "linear": (lambda x: x, lambda y: y),
    "log": (math.log, math.exp),
    "one_minus_log": (
        lambda x: -math.log(1 - x),
        lambda y: 1 - math.exp(-y),
    ),
    "integer": (lambda x: x, lambda y: y),
}
KEYS = {"scale", "low", "high"}
# The name by which a space speaks of the length of a run.
STEPS = "steps"
Known = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One hyperparameter's range and scale.

    Attributes:
        name: of the hyperparameter.
        scale: a key of :data:`SCALES`.
        low: lower end, included.
        high: upper end, included.
        below: what its values stay below, or are at most; None is nothing.
    """

    name: str
    scale: str
    low: float
    high: float
    below: str | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value."""
        return self.low, self.high

    def value(self, fraction: float, known: Known | None = None) -> float:
        """Returns the value a fraction of the way up the scale.

        Args:
            fraction: at least 0 and below 1.
            known: values of what ``below`` may name.

        Raises:
            UserError: nothing is left between ``low`` and that.
        """
        high = self.end(known or {})
        if self.scale == "integer":
            return int(self.low + math.floor(fraction * (high - self.low + 1)))
        to_scale, from_scale = SCALES[self.scale]
        start, end = to_scale(self.low), to_scale(high)
        return from_scale(start + fraction * (end - start))

    def end(self, known: Known) -> float:
        """Returns the upper end; see :meth:`value`."""
        if self.below is None:
            return self.high
        limit = known[self.below] - (self.scale == "integer")
        if limit < self.low:
            raise UserError(
                f"{self.name} starts at {self.low:g} but must stay below "
                f"{self.below}, which is {known[self.below]:g}; start lower"
            )
        return min(self.high, limit)


@dataclasses.dataclass(frozen=True)
class Choice:
    """A hyperparameter that has one of some values.

    Attributes:
        name: of the hyperparameter.
        values: which, at least two.
    """

    name: str
    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """All values."""
        return self.values

    def value(self, fraction: float, known: Known | None = None) -> Any:
        """Returns the value a fraction of the way through them."""
        del known
        return self.values[math.floor(fraction * len(self.values))]


Axis = Dimension | Choice


def parse(config: Mapping[str, Any], where: str = "the space") -> list[Axis]:
    """Returns the dimensions that a space's YAML mapping describes.

    Args:
        config: such as ``{name: {"scale": "log", "low": ..., "high": ...}}``.
        where: what messages call the place, such as a file's name.

    Raises:
        UserError: no dimension, an unknown key or scale, ends that are no
            numbers or in the wrong order, a log scale that reaches 0,
            ``below`` something that does not stand before it.
    """
    if not isinstance(config, Mapping) or not config:
        raise UserError(f"{where} has no free hyperparameter; add one")
    space: list[Axis] = []
    for name, entry in config.items():
        before = [STEPS, *(axis.name for axis in space)]
        space.append(axis_of(name, entry, before, f"{name} in {where}"))
    return space


def axis_of(name: str, entry: Any, before: Sequence[str], here: str) -> Axis:
    """Returns one checked dimension or choice; see :func:`parse`."""
    if isinstance(entry, Mapping) and entry.get("scale") == "choice":
        return choice(name, entry, here)
    if not isinstance(entry, Mapping) or set(entry) - {"below"} != KEYS:
        raise UserError(
            f"{here} must have the keys scale, low and high; it is {entry!r}"
        )
    scale, low, high = entry["scale"], entry["low"], entry["high"]
    if not isinstance(scale, str) or scale not in SCALES:
        raise UserError(
            f"{here} has the scale {scale!r}; use one of "
            f"{', '.join(SCALES)}, choice"
        )
    check_ends(scale, low, high, here)
    below = entry.get("below")
    if below is not None and below not in before:
        raise UserError(
            f"{here} is below {below!r}; name one of {', '.join(before)}"
        )
    return Dimension(name, scale, float(low), float(high), below)


def choice(name: str, entry: Mapping[str, Any], here: str) -> Choice:
    """Returns a checked choice; see :func:`parse`."""
    values = entry.get("values")
    if set(entry) != {"scale", "values"} or not isinstance(values, list):
        raise UserError(
            f"{here} must have the keys scale and values, a list; it is "
            f"{dict(entry)!r}"
        )
    if len(values) < 2 or any(values.count(value) > 1 for value in values):
        raise UserError(f"{here} has {values}; give two or more that differ")
    return Choice(name, tuple(values))


def check_ends(scale: str, low: Any, high: Any, here: str) -> None:
    """Raises UserError if a scale cannot have these ends."""
    for end in (low, high):
        if not is_finite_number(end):
            raise UserError(f"{here} has the end {end!r}; give a finite number")
        if scale == "integer" and end != int(end):
            raise UserError(f"{here} has the end {end!r}; give an integer")
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


def is_finite_number(value: Any) -> bool:
    """Whether a value is a number, which booleans, NaN and infinity are not.

    Nor is an integer that no float comes near.

    >>> [is_finite_number(x) for x in (1, 0.5, True, math.nan, 10**400, "1")]
    [True, True, False, False, False, False]
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


def is_integer(value: Any) -> bool:
    """Whether a value is an integer, which booleans are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def points(
    space: Sequence[Axis],
    count: int,
    seed: int,
    known: Known | None = None,
    sequence: Literal["halton", "sobol"] = "halton",
) -> list[dict[str, Any]]:
    """Returns quasi-random points: SciPy's scrambled Halton or Sobol.

    More points of the same seed continue the sequence, and spaces of the same
    number of dimensions get the same points of the unit cube, so that the
    luck of the draw is shared by the rows that are compared.

    Args:
        space: the dimensions.
        count: how many points.
        seed: of the scrambling.
        known: ``{"steps": ...}``, where the space speaks of it.
        sequence: which.

    Raises:
        UserError: nothing is left of a dimension that must stay below
            another.
    """
    return [
        at(space, point, known or {})
        for point in unit_points(len(space), count, seed, sequence)
    ]


def unit_points(
    dimensions: int, count: int, seed: int, sequence: str
) -> Sequence[Sequence[float]]:
    """Returns points of the unit cube."""
    if sequence == "halton":
        return qmc.Halton(dimensions, scramble=True, rng=seed).random(count)
    engine = qmc.Sobol(dimensions, scramble=True, rng=seed)
    # SciPy warns of any other number than a power of two.
    return engine.random_base2(math.ceil(math.log2(max(count, 1))))[:count]


def at(
    space: Sequence[Axis], point: Sequence[float], known: Known
) -> dict[str, Any]:
    """Returns the values at a point of the unit cube."""
    values: dict[str, Any] = {}
    for axis, fraction in zip(space, point):
        values[axis.name] = axis.value(fraction, {**known, **values})
    return values
