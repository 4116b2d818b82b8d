"""What the rules share: norms, coupled decay, and the types they speak of."""

import math
from collections.abc import Callable
from typing import Any

Array = Any  # An array, tensor or variable of the namespace in use.
Namespace = Any  # A module of array functions: numpy, keras.ops, ...
Scalar = Any  # A Python float, or a scalar array or variable.

# Of a norm below this, squares may be too small for float32 to have counted.
SMALLEST_NORM = 1e-12
# A power of two, which rounds nothing, far from both ends of float32.
FACTOR = 2.0**80


def l2_norm(xp: Namespace, x: Array) -> Array:
    """Returns the L2 norm of one whole variable, as a scalar."""
    return xp.sqrt(xp.sum(xp.square(x)))


def gradient_norm(xp: Namespace, g: Array) -> Array:
    """Returns the L2 norm of a gradient, however large or small.

    Squares of numbers beyond 1e19 or below 1e-19 leave float32: there the
    norm is computed anew, of ``g`` scaled. Elsewhere that costs nothing, where
    the namespace has a ``cond``.

    >>> import numpy
    >>> print(gradient_norm(numpy, numpy.float32([3e-25, 4e-25])))
    5e-25
    """
    norm = l2_norm(xp, g)
    scale = scale_for(xp, norm)
    choose = getattr(xp, "cond", None) or choose_of_both(xp)
    return choose(
        is_usual(xp, norm), lambda: norm, lambda: l2_norm(xp, scale * g) / scale
    )


def is_usual(xp: Namespace, norm: Array) -> Array:
    """Whether all squares of which a norm was made count in float32."""
    return xp.logical_and(norm >= SMALLEST_NORM, norm < math.inf)


def scale_for(xp: Namespace, norm: Array) -> Array:
    """Returns by what to multiply numbers whose norm is not usual."""
    one = xp.ones_like(norm)
    return xp.where(norm < 1, FACTOR * one, one / FACTOR)


def choose_of_both(xp: Namespace) -> Callable[..., Array]:
    """Returns a ``cond`` that computes both, for where there is none."""
    return lambda condition, yes, no: xp.where(condition, yes(), no())


def add_decay(g: Array, w: Array, weight_decay: Scalar) -> Array:
    """Returns g + lambda w, the exact gradient of (lambda / 2) ||w||^2 + loss.

    At the Python number 0 it returns ``g`` itself, which saves a pass over
    memory and keeps a variable without decay free of it to the last bit.
    """
    return g if is_zero(weight_decay) else g + weight_decay * w


def is_zero(value: Scalar) -> bool:
    """Whether a hyperparameter is the Python number 0."""
    return isinstance(value, (int, float)) and value == 0
