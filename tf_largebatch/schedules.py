"""Learning-rate schedules as pure functions of the step.

The functions take an array namespace and any step, scalar or array, and
return float32 that agrees with float64 to 3e-6 relative up to the last step:
the distance to the end is formed before anything is rounded to float32, and
no two nearly equal numbers are subtracted afterwards.

>>> import numpy
>>> piecewise_polynomial(
...     numpy, [0, 353, 706, 2512], peak=7.05, total_steps=2512,
...     warmup_steps=706, final=6e-6, warmup_power=2.0)
array([0.0000e+00, 1.7625e+00, 7.0500e+00, 6.0000e-06], dtype=float32)
"""

import math
import numbers
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

from tf_largebatch.rules.arrays import Array, Namespace

# Steps to divide by in float32, where less would be 0.
SHORTEST = 1e-30
# The largest number in float32.
LARGEST = (2 - 2.0**-23) * 2.0**127
# By how many steps they are counted, and the rest one by one.
PART = 4096


def piecewise_polynomial(
    xp: Namespace,
    step: Array,
    *,
    peak: float,
    total_steps: float,
    warmup_steps: float,
    initial: float = 0.0,
    final: float = 0.0,
    warmup_power: float = 1.0,
    decay_power: float = 2.0,
    decay_steps: float | None = None,
) -> Array:
    """Polynomial warmup, then polynomial decay: the paper's section 2.1.4.

    ``t <= W: initial + (peak - initial) (t / W)^warmup_power``, and after it
    ``final + (peak - final) (1 - (t - W) / D)^decay_power``, which is the
    paper's ``((T - t) / (T - W))^p_decay`` for ``D = T - W``.

    Args:
        xp: array namespace.
        step: t, integers; 0 at the first step.
        peak: rate at the end of warmup.
        total_steps: T, steps of the whole run.
        warmup_steps: W; may be fractional (the published LARS pipeline's is
            706.5) and 0.
        initial: rate at step 0.
        final: rate at the end and beyond it.
        warmup_power: exponent of the warmup.
        decay_power: exponent of the decay.
        decay_steps: D; None means T - W. The published LARS pipeline has
            T - W + 1.

    Returns:
        The rate, float32, of the shape of ``step``.
    """
    if decay_steps is None:
        decay_steps = total_steps - warmup_steps
    end = warmup_steps + decay_steps
    decayed = final + (peak - final) * fraction_left(
        xp, step, end, decay_steps
    ) ** float(decay_power)
    if not warmup_steps:
        return decayed
    warm = initial + (peak - initial) * fraction_done(
        xp, step, warmup_steps
    ) ** float(warmup_power)
    return xp.where(is_warmup(xp, step, warmup_steps), warm, decayed)


def cosine(
    xp: Namespace,
    step: Array,
    *,
    peak: float,
    total_steps: float,
    warmup_steps: float = 0.0,
    final: float = 0.0,
) -> Array:
    """Cosine decay, after a linear warmup if there is one (section 4).

    ``final + (peak - final) (1 + cos(pi (t - W) / (T - W))) / 2``; the
    half-angle form is used, which keeps its digits near the end.

    Args:
        xp: array namespace.
        step: t, integers; 0 at the first step.
        peak: rate at the end of warmup, at step 0 without one.
        total_steps: T, steps of the whole run.
        warmup_steps: W, may be fractional and 0.
        final: rate from T on.

    Returns:
        The rate, float32, of the shape of ``step``.
    """
    left = fraction_left(xp, step, total_steps, total_steps - warmup_steps)
    decayed = final + (peak - final) * xp.square(xp.sin(0.5 * math.pi * left))
    if not warmup_steps:
        return decayed
    warm = peak * fraction_done(xp, step, warmup_steps)
    return xp.where(is_warmup(xp, step, warmup_steps), warm, decayed)


def bert_polynomial(
    xp: Namespace,
    step: Array,
    *,
    peak: float,
    total_steps: float,
    warmup_steps: float,
    power: float = 1.0,
    warmup_power: float = 1.0,
    discontinuous: bool = False,
) -> Array:
    """BERT's warmup and polynomial decay, with or without its jump.

    Continuous: ``peak ((T - t) / (T - W))^power`` after the warmup
    ``peak (t / W)^warmup_power``. The released code
    (google-research/bert, optimization.py) decays from step 0,
    ``peak (1 - t / T)^power``, and overwrites that while t < W, so its rate
    falls to ``peak (1 - W / T)^power`` when the warmup ends.

    Args:
        xp: array namespace.
        step: t, integers; 0 at the first step.
        peak: rate at the end of warmup.
        total_steps: T, steps of the whole run.
        warmup_steps: W, may be fractional and 0.
        power: exponent of the decay.
        warmup_power: exponent of the warmup.
        discontinuous: whether to decay as the released code does.

    Returns:
        The rate, float32, of the shape of ``step``.
    """
    decay_steps = total_steps if discontinuous else total_steps - warmup_steps
    left = fraction_left(xp, step, total_steps, decay_steps)
    decayed = peak * left ** float(power)
    if not warmup_steps:
        return decayed
    warm = peak * fraction_done(xp, step, warmup_steps) ** float(warmup_power)
    return xp.where(remaining(xp, step, warmup_steps) > 0, warm, decayed)


def remaining(xp: Namespace, step: Array, end: float) -> Array:
    """Returns ``end - step`` in float32, subtracted before it is rounded.

    In integers it would overflow at a step without a sign, or an end beyond
    the step's type. So both are cut in two, which float32 holds exactly up to
    2^36, as it does their differences.

    >>> import numpy
    >>> print(remaining(numpy, numpy.uint8(150), 100.5))
    -49.5
    """
    step = xp.array(step)
    if "int8" in str(step.dtype):  # Which cannot be divided by so much.
        step = xp.array(step, dtype="int32")
    whole = math.floor(end)
    large, small = divmod(whole, PART)
    parts = step // PART
    rest = xp.array(step - parts * PART, dtype="float32")
    left = float(large) - xp.array(parts, dtype="float32")
    return left * float(PART) + (small - rest) + (end - whole)


def fraction_left(
    xp: Namespace, step: Array, end: float, steps: float
) -> Array:
    """Returns the part of ``steps`` before ``end`` that is left, in [0, 1]."""
    steps = float(max(steps, SHORTEST) if steps else 1.0)
    return xp.clip(remaining(xp, step, end) / steps, 0.0, 1.0)


def fraction_done(xp: Namespace, step: Array, steps: float) -> Array:
    """Returns the part of the first ``steps`` that is done, in [0, 1]."""
    done = xp.array(step, dtype="float32") / float(max(steps, SHORTEST))
    return xp.clip(done, 0.0, 1.0)


def is_warmup(xp: Namespace, step: Array, warmup_steps: float) -> Array:
    """Whether t <= W, decided without rounding t."""
    return remaining(xp, step, warmup_steps) >= 0


class Schedule:
    """What the schedule classes of both Keras families share.

    A subclass names its function and holds its arguments; a Keras family adds
    its own base class and array namespace.
    """

    function: Callable[..., Array]
    # Of the arguments, which are no numbers but bools, and which must be
    # larger than 0, as 0^0 = 1 would be left where there is nothing left.
    options: ClassVar[tuple[str, ...]] = ()
    positive: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **arguments: Any):
        check_arguments(arguments, self.options, self.positive)
        self.arguments: Mapping[str, Any] = arguments

    def rate(self, xp: Namespace, step: Array) -> Array:
        """Returns the rate at ``step``, float32."""
        return self.function(xp, step, **self.arguments)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return dict(self.arguments)


class PiecewisePolynomial(Schedule):
    """Polynomial warmup, then polynomial decay: the paper's section 2.1.4.

    Args:
        peak: rate at the end of warmup.
        total_steps: steps of the whole run.
        warmup_steps: may be fractional (706.5 in the published LARS
            pipeline) and 0.
        initial: rate at step 0. Defaults to 0.
        final: rate at the end and beyond it. Defaults to 0.
        warmup_power: exponent of the warmup. Defaults to 1.
        decay_power: exponent of the decay, larger than 0. Defaults to 2.
        decay_steps: None means ``total_steps - warmup_steps``; the published
            LARS pipeline decays over one step more.

    Raises:
        ValueError: warmup longer than the run, a value that is negative or no
            finite number, or a `decay_power` of 0.

    Example, Nesterov's Configuration B of the paper's table 1:

    >>> from tf_largebatch.keras import PiecewisePolynomial
    >>> schedule = PiecewisePolynomial(
    ...     peak=7.05, total_steps=2512, warmup_steps=706, final=6e-6,
    ...     warmup_power=2.0)
    >>> print(f"{float(schedule(1500)):.4f}")
    2.2137

    Source: section 2.1.4 of the paper; MLPerf v0.7, resnet-research-JAX,
    train.py, for ``decay_steps``.
    """

    function = staticmethod(piecewise_polynomial)
    positive: ClassVar[tuple[str, ...]] = ("decay_power",)

    def __init__(
        self,
        peak: float,
        total_steps: float,
        warmup_steps: float,
        initial: float = 0.0,
        final: float = 0.0,
        warmup_power: float = 1.0,
        decay_power: float = 2.0,
        decay_steps: float | None = None,
    ):
        super().__init__(
            peak=peak,
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            initial=initial,
            final=final,
            warmup_power=warmup_power,
            decay_power=decay_power,
            decay_steps=decay_steps,
        )


class Cosine(Schedule):
    """Cosine decay, after a linear warmup if there is one (section 4).

    Args:
        peak: rate at the end of warmup, at step 0 without one.
        total_steps: steps of the whole run.
        warmup_steps: may be fractional. Defaults to 0.
        final: rate at the end and beyond it. Defaults to 0.

    Raises:
        ValueError: warmup longer than the run, or a value that is negative
            or no finite number.

    Example:

    >>> from tf_largebatch.keras import Cosine
    >>> print(f"{float(Cosine(peak=0.5, total_steps=6000)(3000)):.4f}")
    0.2500

    Source: Loshchilov and Hutter 2017, without restarts; section 4 of the
    paper.
    """

    function = staticmethod(cosine)

    def __init__(
        self,
        peak: float,
        total_steps: float,
        warmup_steps: float = 0.0,
        final: float = 0.0,
    ):
        super().__init__(
            peak=peak,
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            final=final,
        )


class BertPolynomial(Schedule):
    """BERT's warmup and polynomial decay, with or without its jump.

    Args:
        peak: rate at the end of warmup.
        total_steps: steps of the whole run.
        warmup_steps: may be fractional and 0.
        power: exponent of the decay, larger than 0. Defaults to 1.
        warmup_power: exponent of the warmup. Defaults to 1.
        discontinuous: True decays from step 0 and lets the warmup overwrite
            it, as google-research/bert's optimization.py does, so that the
            rate drops when the warmup ends. Defaults to False.

    Raises:
        ValueError: warmup longer than the run, a value that is negative or no
            finite number, a `power` of 0, or a `discontinuous` that is no
            bool.

    Example:

    >>> from tf_largebatch.keras import BertPolynomial
    >>> jump = BertPolynomial(1.0, 10, 3, discontinuous=True)
    >>> [round(float(jump(t)), 4) for t in (2, 3, 4)]
    [0.6667, 0.7, 0.6]

    Source: google-research/bert, optimization.py.
    """

    function = staticmethod(bert_polynomial)
    options: ClassVar[tuple[str, ...]] = ("discontinuous",)
    positive: ClassVar[tuple[str, ...]] = ("power",)

    def __init__(
        self,
        peak: float,
        total_steps: float,
        warmup_steps: float,
        power: float = 1.0,
        warmup_power: float = 1.0,
        discontinuous: bool = False,
    ):
        super().__init__(
            peak=peak,
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            power=power,
            warmup_power=warmup_power,
            discontinuous=discontinuous,
        )


# By the name that recipes have.
BY_NAME = {
    "largebatch_piecewise_polynomial": PiecewisePolynomial,
    "largebatch_cosine": Cosine,
    "largebatch_bert_polynomial": BertPolynomial,
}


def check_arguments(
    arguments: Mapping[str, Any],
    options: Collection[str] = (),
    positive: Collection[str] = (),
) -> None:
    """Raises ValueError where a schedule's arguments make no schedule.

    Args:
        arguments: by name.
        options: the names of those that are bools.
        positive: the names of those that must be larger than 0.
    """
    for name, value in arguments.items():
        if name in options:
            check_option(name, value)
        elif name != "decay_steps" or value is not None:
            check_number(name, value, name in positive)
    total_steps = arguments["total_steps"]
    warmup_steps = arguments.get("warmup_steps", 0.0)
    if total_steps < 1:
        raise ValueError(
            f"`total_steps` must be at least 1. Received: {total_steps=}"
        )
    if warmup_steps > total_steps:
        raise ValueError(
            "`warmup_steps` must not exceed `total_steps`, or the peak is "
            f"never reached. Received: {warmup_steps=}, {total_steps=}"
        )


def check_number(name: str, value: Any, is_positive: bool) -> None:
    """Raises ValueError where a schedule cannot have a number."""
    valid = is_finite_and_not_negative(value)
    if not valid or (is_positive and not value):
        least = "larger than 0" if is_positive else "0 or larger"
        raise ValueError(
            f"`{name}` must be a finite number, {least}. "
            f"Received: {name}={value!r}"
        )


def check_option(name: str, value: Any) -> None:
    """Raises ValueError where an option is not a bool."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be a bool. Received: {name}={value!r}")


def is_finite_and_not_negative(value: Any) -> bool:
    """Whether a value is a number that a schedule can have, in float32.

    >>> values = 1, math.nan, -1, 1e39, 10**400, True
    >>> [is_finite_and_not_negative(value) for value in values]
    [True, False, False, False, False, False]
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return 0 <= float(value) <= LARGEST
    except OverflowError:  # An integer beyond all floats.
        return False
