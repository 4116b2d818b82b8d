"""LAMB (You et al. 2019): Adam with a trust ratio for each variable."""

from typing import Any

from tf_largebatch.rules.adam import adam_direction
from tf_largebatch.rules.arrays import (
    Array,
    Namespace,
    Scalar,
    add_decay,
    l2_norm,
)


def lamb(
    xp: Namespace,
    w: Array,
    g: Array,
    m: Array,
    s: Array,
    *,
    learning_rate: Scalar,
    weight_decay: Scalar = 0.0,
    zero_norm_ratio: Scalar = 1.0,
    decay_in_ratio: bool = True,
    **moments: Any,
) -> tuple[Array, Array, Array, Array]:
    """Takes one step: ``u = mh/(sqrt(sh)+eps) + lambda w; w <- w - eta r u``.

    ``r = ||w|| / ||u||``, and ``zero_norm_ratio`` where either norm is 0.

    Args:
        xp: array namespace.
        w: parameter, any shape.
        g: gradient of the loss averaged over the global batch, as ``w``.
        m: first moment, as ``w``; zeros before the first step.
        s: second moment, as ``w``; zeros before the first step.
        learning_rate: eta of this step.
        weight_decay: lambda.
        zero_norm_ratio: the ratio where a norm is 0: 1 moves a variable
            that starts at zero, 0 (Flax) freezes it for ever.
        decay_in_ratio: with False the decay stands outside the ratio, as in
            ``keras.optimizers.Lamb``: first ``w <- w - eta lambda w``, then
            the step of that w with ``u`` free of decay.
        **moments: what else :func:`adam_direction` takes.

    Returns:
        The new ``w``, ``m`` and ``s``, and the trust ratio r.
    """
    u, m, s = adam_direction(xp, g, m, s, **moments)
    if decay_in_ratio:
        u = add_decay(u, w, weight_decay)
    else:
        w = w - learning_rate * weight_decay * w
    r = trust_ratio(xp, l2_norm(xp, w), l2_norm(xp, u), zero_norm_ratio)
    return w - learning_rate * r * u, m, s, r


def trust_ratio(
    xp: Namespace, w_norm: Array, u_norm: Array, zero_norm_ratio: Scalar
) -> Array:
    """Returns ``||w|| / ||u||``, or ``zero_norm_ratio`` where a norm is 0."""
    one = xp.ones_like(w_norm)
    ratio = w_norm / xp.where(u_norm > 0, u_norm, one)
    has_ratio = xp.logical_and(w_norm > 0, u_norm > 0)
    return xp.where(has_ratio, ratio, zero_norm_ratio * one)
