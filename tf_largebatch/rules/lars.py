"""LARS (You et al. 2017) as the published pipeline computes it, and kin."""

from tf_largebatch.rules.arrays import (
    Array,
    Namespace,
    Scalar,
    add_decay,
    l2_norm,
)
from tf_largebatch.rules.variants import LARS_VARIANTS, LARSVariant


def lars(
    xp: Namespace,
    w: Array,
    g: Array,
    v: Array,
    *,
    learning_rate: Scalar,
    momentum: Scalar,
    weight_decay: Scalar = 0.0,
    trust_coefficient: Scalar = 0.001,
    epsilon: Scalar = 0.0,
    variant: LARSVariant = LARS_VARIANTS["mlperf"],
) -> tuple[Array, Array, Array]:
    """Takes one step; ``mlperf``: ``v <- mu v + eta r (g + lambda w)``.

    Then ``w <- w - v``, with ``r = c ||w|| / (||g|| + lambda ||w|| + eps)``
    and r = 1 where ``||w|| = 0`` or ``||g|| = 0``. The other variants move
    the rate or the ratio out of the buffer, or take another norm.

    Args:
        xp: array namespace.
        w: parameter, any shape.
        g: gradient of the loss averaged over the global batch, as ``w``.
        v: momentum buffer, as ``w``; zeros before the first step.
        learning_rate: eta of this step.
        momentum: mu.
        weight_decay: lambda.
        trust_coefficient: c.
        epsilon: added to the denominator of the ratio.
        variant: a row of :data:`~tf_largebatch.rules.LARS_VARIANTS`.

    Returns:
        The new ``w``, the new ``v``, and the trust ratio r.
    """
    update = add_decay(g, w, weight_decay) if variant.adds_decay else g
    eta_inside, eta_outside = (
        (learning_rate, 1.0)
        if variant.learning_rate_in_momentum
        else (1.0, learning_rate)
    )
    normed = {"gradient": g, "decayed_gradient": update}

    def ratio(normed: Array) -> Array:
        return trust_ratio(
            xp,
            l2_norm(xp, w),
            l2_norm(xp, normed),
            weight_decay=weight_decay,
            trust_coefficient=trust_coefficient,
            epsilon=epsilon,
            variant=variant,
        )

    if variant.ratio_in_momentum:
        r = ratio(normed[variant.norm_of])
        v = momentum * v + eta_inside * r * update
        return w - eta_outside * v, v, r
    v = momentum * v + eta_inside * update
    r = ratio({**normed, "momentum": v}[variant.norm_of])
    return w - eta_outside * r * v, v, r


def trust_ratio(
    xp: Namespace,
    w_norm: Array,
    g_norm: Array,
    *,
    weight_decay: Scalar,
    trust_coefficient: Scalar,
    epsilon: Scalar,
    variant: LARSVariant,
) -> Array:
    """Returns ``c ||w|| / (||g|| + lambda ||w|| + eps)``, 1 at a zero norm.

    ``lambda ||w||`` is there where ``||g||`` is the norm of the plain gradient.
    With ``freezes_zero_weights`` it is 1 only where both norms are 0, so
    that a variable that starts at zero gets the ratio 0 and never moves.
    Without ``adapts_without_decay`` it is 1 as well where lambda is 0.
    """
    one = xp.ones_like(w_norm)
    denominator = g_norm + epsilon
    if variant.norm_of == "gradient":
        denominator += weight_decay * w_norm
    ratio = (
        trust_coefficient * w_norm / xp.where(denominator > 0, denominator, one)
    )
    if variant.freezes_zero_weights:
        has_ratio = xp.logical_and(
            xp.logical_or(w_norm > 0, g_norm > 0), denominator > 0
        )
    else:
        has_ratio = xp.logical_and(w_norm > 0, g_norm > 0)
    if not variant.adapts_without_decay:
        has_ratio = xp.logical_and(has_ratio, weight_decay * one > 0)
    return xp.where(has_ratio, ratio, one)
