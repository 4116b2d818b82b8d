"""What an optimizer does, in figures: its trust ratios and the L2 penalty."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_largebatch.optimizers.base import LargeBatchOptimizer
from tf_largebatch.optimizers.lamb import LAMB
from tf_largebatch.optimizers.lars import LARS
from tf_largebatch.variables import Treatment

Tensors = Sequence[tf.Tensor]


def adapted(optimizer: Any) -> list[int]:
    """Returns the indices of the variables with a trust ratio of their own.

    Args:
        optimizer: any; one that is built, if it is of this package.
    """
    if not isinstance(optimizer, LARS | LAMB):
        return []
    treatments = enumerate(treatments_of(optimizer))
    return [index for index, each in treatments if each.adapted]


def treatments_of(optimizer: Any) -> Sequence[Treatment]:
    """Returns what a built optimizer of this package does to its variables."""
    return optimizer._treatments


def norms_of(gradients: Tensors) -> tf.Tensor:
    """Returns the L2 norms, shape (gradients,)."""
    return tf.sqrt(2 * tf.stack([*map(tf.nn.l2_loss, gradients)]))


def first_bad(
    before: tf.Tensor, step: tf.Tensor, finite: tf.Tensor
) -> tf.Tensor:
    """Returns in which step which variable's gradient was not finite first.

    Args:
        before: what was known, int64 of shape (2,): step and variable's
            number, negative while all have been finite.
        step: which is taken, int64, 0 at the first.
        finite: whether each gradient is, bool of shape (variables,).
    """
    place = tf.argmin(tf.cast(finite, tf.int32))
    found = tf.stack([step, place])
    is_first = (before[0] < 0) & ~tf.reduce_all(finite)
    return tf.where(is_first, found, before)


def l2_penalty(
    optimizer: Any, variables: Sequence[tf.Variable]
) -> tf.Tensor | None:
    """Returns lambda/2 times the sum of squares of what decays.

    That is the L2 term of the loss of which a coupled decay is the gradient.
    None for an optimizer that is not of this package.
    """
    if not isinstance(optimizer, LargeBatchOptimizer):
        return None
    squares = [
        tf.reduce_sum(tf.square(variable))
        for variable, treatment in zip(variables, treatments_of(optimizer))
        if treatment.decayed
    ]
    decay = optimizer.hyperparameters()["weight_decay"]
    return decay / 2 * tf.add_n(squares) if squares else tf.constant(0.0)
