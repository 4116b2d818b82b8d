"""Nesterov momentum as the paper's section 2.1.1 defines it."""

from tf_largebatch.rules.arrays import Array, Namespace, Scalar, add_decay


def nesterov(
    xp: Namespace,
    w: Array,
    g: Array,
    v: Array,
    *,
    learning_rate: Scalar,
    momentum: Scalar,
    weight_decay: Scalar = 0.0,
    learning_rate_in_momentum: bool = False,
) -> tuple[Array, Array]:
    """Takes one step: ``v <- mu v + g; w <- w - eta (mu v + g)``.

    Args:
        xp: array namespace; unused here, the operators suffice.
        w: parameter, any shape.
        g: gradient of the loss averaged over the global batch, as ``w``.
        v: momentum buffer, as ``w``; zeros before the first step.
        learning_rate: eta of this step, a scalar.
        momentum: mu, a scalar.
        weight_decay: lambda; coupled, that is ``g <- g + lambda w``.
        learning_rate_in_momentum: with True ``v <- mu v + eta g;
            w <- w - (mu v + eta g)``, which is what
            ``keras.optimizers.SGD(nesterov=True)`` computes.

    Returns:
        The new ``w`` and the new ``v``.
    """
    del xp
    g = add_decay(g, w, weight_decay)
    if learning_rate_in_momentum:
        v = momentum * v + learning_rate * g
        return w - (momentum * v + learning_rate * g), v
    v = momentum * v + g
    return w - learning_rate * (momentum * v + g), v
