"""What an optimizer does, in figures: its trust ratios and the L2 penalty."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_largebatch.optimizers.base import LargeBatchOptimizer
from tf_largebatch.optimizers.lamb import LAMB
from tf_largebatch.optimizers.lars import LARS
from tf_largebatch.rules import LAMB_VARIANTS, LARS_VARIANTS, adam_direction
from tf_largebatch.rules.arrays import gradient_norm, is_usual
from tf_largebatch.rules.lamb import ratio_of as lamb_ratio
from tf_largebatch.rules.lamb import with_decay
from tf_largebatch.rules.lars import ratio_of as lars_ratio
from tf_largebatch.rules.lars import update_of
from tf_largebatch.tf_keras import namespace
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
    """Returns the L2 norms, shape (gradients,), however large or small."""
    norms = tf.sqrt(2 * tf.stack([*map(tf.nn.l2_loss, gradients)]))
    return tf.cond(
        tf.reduce_all(is_usual(namespace, norms)),
        lambda: norms,
        lambda: tf.stack([gradient_norm(namespace, g) for g in gradients]),
    )


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


def trust_ratios(
    optimizer: Any, gradients: Tensors, variables: Sequence[tf.Variable]
) -> tf.Tensor:
    """Returns r of the step that is about to be taken.

    Args:
        optimizer: a built optimizer.
        gradients: of the global batch, of all trainable variables.
        variables: the trainable variables.

    Returns:
        A float32 vector, an element for each variable of :func:`adapted`.
    """
    indices = adapted(optimizer)
    if not indices:
        return tf.zeros([0])
    gradients = optimizer._clip_gradients(gradients)
    ratios = [
        ratio_of(
            optimizer,
            treatments_of(optimizer)[index].decayed,
            tf.convert_to_tensor(variables[index]),
            tf.convert_to_tensor(gradients[index]),
            [tf.convert_to_tensor(slots[index]) for slots in optimizer._slots],
        )
        for index in indices
    ]
    return tf.stack(ratios)


def ratio_of(
    optimizer: Any, decayed: bool, w: tf.Tensor, g: tf.Tensor, slots: Tensors
) -> tf.Tensor:
    """Returns r of one variable, as the optimizer's rule computes it."""
    numbers = {
        name: optimizer.scalar(value, tf.float32)
        for name, value in optimizer.hyperparameters().items()
    }
    decay = numbers["weight_decay"] if decayed else 0.0
    function = ratio_of_lars if isinstance(optimizer, LARS) else ratio_of_lamb
    return function(optimizer, numbers, decay, w, g, *slots)


def ratio_of_lars(
    optimizer: Any,
    numbers: dict[str, Any],
    decay: Any,
    w: tf.Tensor,
    g: tf.Tensor,
    v: tf.Tensor,
) -> tf.Tensor:
    """Returns LARS's ratio: of ``||w||`` to the norm that the variant takes."""
    variant = LARS_VARIANTS[optimizer.variant]
    update = update_of(w, g, decay, variant)
    return lars_ratio(
        namespace,
        w,
        g,
        update,
        numbers["momentum"] * v + update,
        weight_decay=decay,
        trust_coefficient=numbers["trust_coefficient"],
        epsilon=numbers["epsilon"],
        variant=variant,
    )


def ratio_of_lamb(
    optimizer: Any,
    numbers: dict[str, Any],
    decay: Any,
    w: tf.Tensor,
    g: tf.Tensor,
    m: tf.Tensor,
    s: tf.Tensor,
) -> tf.Tensor:
    """Returns LAMB's ratio: ``||w||`` to the norm of Adam's direction."""
    u, _, _ = adam_direction(
        namespace,
        g,
        m,
        s,
        step=tf.cast(optimizer.iterations, tf.float32),
        beta_1=numbers["beta_1"],
        beta_2=numbers["beta_2"],
        epsilon=numbers["epsilon"],
        bias_correction=optimizer.bias_correction,
    )
    in_ratio = LAMB_VARIANTS[optimizer.variant].decay_in_ratio
    w, u = with_decay(w, u, next_rate(optimizer), decay, in_ratio)
    return lamb_ratio(namespace, w, u, numbers["zero_norm_ratio"])


def next_rate(optimizer: Any) -> tf.Tensor:
    """Returns the learning rate of the step that is about to be taken."""
    rate = optimizer._learning_rate
    return rate(optimizer.iterations) if callable(rate) else rate


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
