"""The update rules as TensorFlow's fused kernels, which work in place.

Each function computes what the one of its name in :mod:`tf_largebatch.rules`
does, takes the same arguments and returns the same, but ``w`` and the slots are
variables of TensorFlow, which it changes. An operation at a time would read and
write every variable several times over: an optimizer's step does little else
than move bytes, so this is up to three times as fast (docs/performance.md).

The kernels are those of TensorFlow's own optimizers of old, which eager mode,
graphs, XLA and SavedModels know, on CPU, GPU and TPU.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import tensorflow as tf
from tensorflow import raw_ops

from tf_largebatch import rules
from tf_largebatch.rules.adam import one_minus_power
from tf_largebatch.rules.arrays import (
    Array,
    Namespace,
    Scalar,
    add_decay,
    is_zero,
)
from tf_largebatch.rules.lamb import trust_ratio as lamb_ratio
from tf_largebatch.rules.lars import trust_ratio as lars_ratio
from tf_largebatch.sharing import once


def after_gradient(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Has a rule's operations wait until its gradient is there.

    What needs room beside the variables would take it up from the beginning
    of a step.
    """

    @functools.wraps(rule)
    def update(
        xp: Namespace, w: Any, g: Array, *slots: Any, **scalars: Any
    ) -> Any:
        with tf.control_dependencies([g]):
            return rule(xp, w, g, *slots, **scalars)

    return update


@after_gradient
def heavy_ball(
    xp: Namespace,
    w: tf.Variable,
    g: Array,
    v: tf.Variable,
    *,
    learning_rate: Scalar,
    momentum: Scalar,
    weight_decay: Scalar = 0.0,
    learning_rate_in_momentum: bool = False,
    nesterov: bool = False,
) -> tuple[tf.Variable, tf.Variable]:
    """Takes one step: ``v <- mu v + g; w <- w - eta v``."""
    del xp
    g = add_decay(g, w, weight_decay)
    if learning_rate_in_momentum:
        g, learning_rate = learning_rate * g, 1.0
    apply_momentum(w, v, g, learning_rate, momentum, nesterov)
    return w, v


def nesterov(*args: Any, **kwargs: Any) -> tuple[tf.Variable, tf.Variable]:
    """Takes one step: ``v <- mu v + g; w <- w - eta (mu v + g)``."""
    return heavy_ball(*args, nesterov=True, **kwargs)


@after_gradient
def lars(
    xp: Namespace,
    w: tf.Variable,
    g: Array,
    v: tf.Variable,
    *,
    learning_rate: Scalar,
    momentum: Scalar,
    weight_decay: Scalar = 0.0,
    trust_coefficient: Scalar = 0.001,
    epsilon: Scalar = 0.0,
    variant: rules.LARSVariant = rules.LARS_VARIANTS["mlperf"],
) -> tuple[tf.Variable, tf.Variable, Array]:
    """Takes one step; ``mlperf``: ``v <- mu v + eta r (g + lambda w)``."""
    update = add_decay(g, w, weight_decay) if variant.adds_decay else g

    def ratio(normed: Any) -> Array:
        return lars_ratio(
            xp,
            l2_norm(w),
            l2_norm(normed),
            weight_decay=weight_decay,
            trust_coefficient=trust_coefficient,
            epsilon=epsilon,
            variant=variant,
        )

    if not variant.ratio_in_momentum:
        # Moves the momentum alone, whose norm the ratio may take.
        apply_momentum(w, v, update, 0.0, momentum)
        r = ratio(g if variant.norm_of == "gradient" else v)
        subtract(w, learning_rate * r, v)
        return w, v, r
    r = ratio(g if variant.norm_of == "gradient" else update)
    if variant.learning_rate_in_momentum:
        update, learning_rate = learning_rate * r * update, 1.0
    else:
        update = r * update
    apply_momentum(w, v, update, learning_rate, momentum)
    return w, v, r


@after_gradient
def adam(
    xp: Namespace,
    w: tf.Variable,
    g: Array,
    m: tf.Variable,
    s: tf.Variable,
    *,
    learning_rate: Scalar,
    weight_decay: Scalar = 0.0,
    epsilon: Scalar,
    **moments: Any,
) -> tuple[Any, Any, Any]:
    """Takes one step: ``w <- w - eta (mh / (sqrt(sh) + eps) + lambda w)``."""
    if without_memory(**moments):
        return rules.adam(
            *(xp, w, g, m, s),
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            epsilon=epsilon,
            **moments,
        )
    if not is_zero(weight_decay):
        w.assign_sub(learning_rate * weight_decay * w)
    factor, root = corrections(xp, g.dtype, **moments)
    apply_adam(w, m, s, g, learning_rate * factor, epsilon * root, **moments)
    return w, m, s


@after_gradient
def lamb(
    xp: Namespace,
    w: tf.Variable,
    g: Array,
    m: tf.Variable,
    s: tf.Variable,
    *,
    learning_rate: Scalar,
    weight_decay: Scalar = 0.0,
    epsilon: Scalar,
    zero_norm_ratio: Scalar = 1.0,
    decay_in_ratio: bool = True,
    **moments: Any,
) -> tuple[Any, Any, Any, Array]:
    """Takes one step: ``u = mh/(sqrt(sh)+eps) + lambda w; w <- w - eta r u``.

    The kernel updates the moments and, at the rate 0, leaves w. Of Adam's
    direction ``factor m / (sqrt(s) + root eps)`` the factor is left to the
    scalars, which saves a pass over memory: ``u = factor (d + lambda' w)``.
    XLA would compute more for the rate 0 and gets the plain rule, whose new
    values are returned to be assigned.
    """
    in_xla = tf.__internal__.get_enclosing_xla_context()
    if in_xla or without_memory(**moments):
        return rules.lamb(
            *(xp, w, g, m, s),
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            epsilon=epsilon,
            zero_norm_ratio=zero_norm_ratio,
            decay_in_ratio=decay_in_ratio,
            **moments,
        )
    factor, root = corrections(xp, g.dtype, **moments)
    apply_adam(w, m, s, g, 0.0, epsilon, **moments)
    if not decay_in_ratio:
        w.assign_sub(learning_rate * weight_decay * w)
        weight_decay = 0.0
    d = m / (tf.sqrt(s) + epsilon * root)
    if not is_zero(weight_decay):
        d += weight_decay / factor * w
    r = lamb_ratio(xp, l2_norm(w), factor * l2_norm(d), zero_norm_ratio)
    subtract(w, learning_rate * r * factor, d)
    return w, m, s, r


def without_memory(beta_1: Scalar, beta_2: Scalar, **ignored: Any) -> bool:
    """Whether a moment is the gradient itself.

    The kernel has ``s + (1 - b2) (g^2 - s)``, which is not g^2 at b2 = 0 where
    s is much larger: the plain rule is, whose values are to be assigned.
    """
    return is_zero(beta_1) or is_zero(beta_2)


def apply_momentum(
    w: tf.Variable,
    v: tf.Variable,
    g: Array,
    learning_rate: Scalar,
    momentum: Scalar,
    nesterov: bool = False,
) -> None:
    """Does ``v <- mu v + g``, then ``w <- w - eta v``, or Nesterov's."""
    raw_ops.ResourceApplyMomentum(
        var=w.handle,
        accum=v.handle,
        lr=scalar(learning_rate, g.dtype),
        grad=g,
        momentum=scalar(momentum, g.dtype),
        use_nesterov=nesterov,
    )


def apply_adam(
    w: tf.Variable,
    m: tf.Variable,
    s: tf.Variable,
    g: Array,
    rate: Scalar,
    epsilon: Scalar,
    *,
    beta_1: Scalar,
    beta_2: Scalar,
    **ignored: Any,
) -> None:
    """Updates the moments, then ``w <- w - rate m / (sqrt(s) + eps)``."""
    zero = scalar(0.0, g.dtype)
    raw_ops.ResourceApplyAdam(
        var=w.handle,
        m=m.handle,
        v=s.handle,
        beta1_power=zero,
        beta2_power=zero,
        lr=scalar(rate, g.dtype),
        beta1=scalar(beta_1, g.dtype),
        beta2=scalar(beta_2, g.dtype),
        epsilon=scalar(epsilon, g.dtype),
        grad=g,
    )


def once_an_update(key: Hashable, compute: Callable[[], Any]) -> Any:
    """Returns what ``compute`` does, the same for all variables of an update.

    It waits for no gradient: else all variables would wait for the first's. In
    a cluster of XLA's nothing waits, and what is freed is outside of it.
    """

    def freely() -> Any:
        if tf.__internal__.get_enclosing_xla_context():
            return compute()
        with tf.control_dependencies(None):
            return compute()

    return once((key, tf.compat.v1.get_default_graph()), freely)


def scalar(value: Scalar, dtype: tf.DType) -> Array:
    """Returns a hyperparameter as a tensor."""
    if isinstance(value, (int, float)):
        return once_an_update((value, dtype), lambda: tf.constant(value, dtype))
    return tf.convert_to_tensor(value, dtype)


def corrections(
    xp: Namespace,
    dtype: tf.DType,
    *,
    step: Array,
    beta_1: Scalar,
    beta_2: Scalar,
    bias_correction: bool = True,
) -> tuple[Array, Array]:
    """Returns by what to multiply the kernel's rate, and its epsilon.

    The kernel has ``m / (sqrt(s) + eps)``, without the corrections c_1 and c_2
    of the moments: ``(m / c_1) / (sqrt(s / c_2) + eps)`` is
    ``(sqrt(c_2) / c_1) m / (sqrt(s) + eps sqrt(c_2))``. This makes up as well
    for its ``1 - beta``, which it rounds: of beta_2 = 0.999 in float32 it is
    1.3e-5 too small, and with it every s.
    """

    def compute() -> tuple[Array, Array]:
        c_1, c_2 = lost(beta_1, dtype), lost(beta_2, dtype)
        if bias_correction:
            c_1 *= one_minus_power(xp, beta_1, step + 1)
            c_2 *= one_minus_power(xp, beta_2, step + 1)
        root = tf.sqrt(scalar(c_2, dtype))
        return root / scalar(c_1, dtype), root

    return once_an_update(("corrections", dtype), compute)


def lost(beta: Scalar, dtype: tf.DType) -> float:
    """Returns by how much ``1 - beta`` changes where ``dtype`` rounds beta.

    Of a beta that is a tensor all rules have what is left.

    >>> round(lost(0.999, tf.float32), 6)
    0.999987
    """
    if not isinstance(beta, (int, float)):
        return 1.0
    return float(1 - dtype.as_numpy_dtype(beta)) / (1 - beta)


def subtract(w: tf.Variable, factor: Array, values: Any) -> None:
    """Does ``w <- w - factor values`` in one pass."""
    raw_ops.ResourceApplyGradientDescent(
        var=w.handle, alpha=factor, delta=tf.convert_to_tensor(values)
    )


def l2_norm(values: Any) -> Array:
    """Returns the L2 norm of a whole variable, without a square in memory."""
    return tf.sqrt(2 * tf.nn.l2_loss(values))
