"""What the rules share: norms, coupled decay, and the types they speak of."""

from typing import Any

Array = Any  # An array, tensor or variable of the namespace in use.
Namespace = Any  # A module of array functions: numpy, keras.ops, ...
Scalar = Any  # A Python float, or a scalar array or variable.


def l2_norm(xp: Namespace, x: Array) -> Array:
    """Returns the L2 norm of one whole variable, as a scalar.

    In float32 it counts numbers from 1e-19 to 1e19, whose squares float32 has.
    """
    return xp.sqrt(xp.sum(xp.square(x)))


def add_decay(g: Array, w: Array, weight_decay: Scalar) -> Array:
    """Returns g + lambda w, the exact gradient of (lambda / 2) ||w||^2 + loss.

    At the Python number 0 it returns ``g`` itself, which saves a pass over
    memory and keeps a variable without decay free of it to the last bit.
    """
    return g if is_zero(weight_decay) else g + weight_decay * w


def is_zero(value: Scalar) -> bool:
    """Whether a hyperparameter is the Python number 0."""
    return isinstance(value, (int, float)) and value == 0
