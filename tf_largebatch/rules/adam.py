"""Adam (Kingma and Ba 2014) with decoupled weight decay."""

import math
from typing import Any

from tf_largebatch.rules.arrays import Array, Namespace, Scalar, add_decay


def one_minus_power(xp: Namespace, beta: Scalar, exponent: Array) -> Array:
    """Returns 1 - beta^exponent without the cancellation of the plain form.

    In float32 ``1 - 0.999`` is off by 1.3e-5; ``-expm1(n log beta)`` is not.
    """
    if isinstance(beta, (int, float)):
        if beta == 0:
            return xp.ones_like(exponent)
        return -xp.expm1(exponent * math.log(beta))
    return -xp.expm1(exponent * xp.log(beta))


def adam_direction(
    xp: Namespace,
    g: Array,
    m: Array,
    s: Array,
    *,
    step: Array,
    beta_1: Scalar,
    beta_2: Scalar,
    epsilon: Scalar,
    bias_correction: bool = True,
) -> tuple[Array, Array, Array]:
    """Updates the moments: returns ``mh / (sqrt(sh) + eps)``, m and s.

    ``m <- b1 m + (1 - b1) g; s <- b2 s + (1 - b2) g^2``, and with bias
    correction ``mh = m / (1 - b1^(t+1)), sh = s / (1 - b2^(t+1))``; without it
    (as in the BERT code base) ``mh = m, sh = s``.

    Args:
        xp: array namespace.
        g: gradient, any shape.
        m: first moment, as ``g``; zeros before the first step.
        s: second moment, as ``g``; zeros before the first step.
        step: t, 0 at the first step; a scalar of a floating dtype.
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the root.
        bias_correction: whether the moments are corrected.

    Returns:
        The direction, the new ``m`` and the new ``s``.
    """
    m = beta_1 * m + (1 - beta_1) * g
    s = beta_2 * s + (1 - beta_2) * xp.square(g)
    if not bias_correction:
        return m / (xp.sqrt(s) + epsilon), m, s
    # By the reciprocal: else every element is divided by the same number.
    mh = m * (1 / one_minus_power(xp, beta_1, step + 1))
    sh = s * (1 / one_minus_power(xp, beta_2, step + 1))
    return mh / (xp.sqrt(sh) + epsilon), m, s


def adam(
    xp: Namespace,
    w: Array,
    g: Array,
    m: Array,
    s: Array,
    *,
    learning_rate: Scalar,
    weight_decay: Scalar = 0.0,
    **moments: Any,
) -> tuple[Array, Array, Array]:
    """Takes one step: ``w <- w - eta (mh / (sqrt(sh) + eps) + lambda w)``.

    Args:
        xp: array namespace.
        w: parameter, any shape.
        g: gradient of the loss averaged over the global batch, as ``w``.
        m: first moment, as ``w``; zeros before the first step.
        s: second moment, as ``w``; zeros before the first step.
        learning_rate: eta of this step.
        weight_decay: lambda, decoupled.
        **moments: what else :func:`adam_direction` takes.

    Returns:
        The new ``w``, ``m`` and ``s``.
    """
    u, m, s = adam_direction(xp, g, m, s, **moments)
    return w - learning_rate * add_decay(u, w, weight_decay), m, s
