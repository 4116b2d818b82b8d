"""The update rules as TensorFlow's fused kernels, which work in place.

Each function computes what the one of its name in :mod:`tf_largebatch.rules`
does, and takes the same arguments, but ``w`` and the slots are variables of
TensorFlow, which it changes; it returns nothing. An operation at a time would
read and write every variable several times over: an optimizer's step does
little else than move bytes, so this is two to four times as fast (see
docs/performance.md). XLA fuses the plain rules itself: :func:`applies` says
where which are meant.

What needs room beside the variables waits for the gradient, or it would take
up memory from the beginning of a step.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow import raw_ops
from tensorflow.python.ops import control_flow_util

from tf_largebatch import rules
from tf_largebatch.rules.adam import one_minus_power
from tf_largebatch.rules.arrays import (
    FACTOR,
    Array,
    Namespace,
    Scalar,
    add_decay,
    is_usual,
    is_zero,
)
from tf_largebatch.rules.lamb import ENLARGED
from tf_largebatch.rules.lamb import trust_ratio as lamb_ratio
from tf_largebatch.rules.lars import ratio_of as lars_ratio
from tf_largebatch.rules.lars import update_of

# TensorFlow's name for a resource that only its handle leads to.
ANONYMOUS = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"
# Where a graph keeps what its operations share.
SHARED = "_tf_largebatch_shared"


def applies(w: tf.Variable) -> bool:
    """Whether the kernels, not the plain rules, are to update a variable.

    They are where TensorFlow runs an operation at a time, on a CPU or a GPU;
    not under XLA, and so not on a TPU. A variable of fewer than 32 bits is
    computed in float32, which the kernels do not do.

    That is known when a step is traced. A ``tf.function`` that was traced
    outside XLA holds the kernels wherever it is called later, and XLA cannot
    compile those of LARS and LAMB.
    """
    if w.dtype not in (tf.float32, tf.float64):
        return False
    if tf.executing_eagerly():
        return True
    graph = tf.compat.v1.get_default_graph()
    return not control_flow_util.GraphOrParentsInXlaContext(graph)


def after_gradient(rule: Callable[..., None]) -> Callable[..., None]:
    """Has a rule's operations wait until its gradient is there."""

    @functools.wraps(rule)
    def update(
        xp: Namespace, w: Any, g: Array, *slots: Any, **scalars: Any
    ) -> None:
        with tf.control_dependencies([g]):
            rule(xp, w, g, *slots, **scalars)

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
) -> None:
    """Takes one step: ``v <- mu v + g; w <- w - eta v``."""
    del xp
    g = add_decay(g, w, weight_decay)
    if learning_rate_in_momentum:
        g, learning_rate = learning_rate * g, 1.0
    apply_momentum(w, v, g, learning_rate, momentum, nesterov)


def nesterov(*args: Any, **kwargs: Any) -> None:
    """Takes one step: ``v <- mu v + g; w <- w - eta (mu v + g)``."""
    heavy_ball(*args, nesterov=True, **kwargs)


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
) -> None:
    """Takes one step; ``mlperf``: ``v <- mu v + eta r (g + lambda w)``."""
    update = update_of(w, g, weight_decay, variant)
    ratio = functools.partial(
        lars_ratio,
        *(xp, w, g, update, v),
        weight_decay=weight_decay,
        trust_coefficient=trust_coefficient,
        epsilon=epsilon,
        variant=variant,
        norms=(l2_norm, gradient_norm),
    )
    if variant.learning_rate_in_momentum:
        update, learning_rate = learning_rate * ratio() * update, 1.0
    elif variant.ratio_in_momentum:
        update = ratio() * update
    else:
        # Moves the momentum alone, whose norm the ratio may take.
        apply_momentum(w, v, update, 0.0, momentum)
        subtract(w.handle, learning_rate * ratio(), v)
        return
    apply_momentum(w, v, update, learning_rate, momentum)


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
    **moments: Any,
) -> None:
    """Takes one step: ``w <- w - eta (mh / (sqrt(sh) + eps) + lambda w)``."""
    decay(w, learning_rate, weight_decay)
    apply_adam(xp, w.handle, g, m, s, learning_rate, **moments)


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
    zero_norm_ratio: Scalar = 1.0,
    decay_in_ratio: bool = True,
    **moments: Any,
) -> None:
    """Takes one step: ``u = mh/(sqrt(sh)+eps) + lambda w; w <- w - eta r u``.

    The kernel subtracts from a variable: u is a passing one, which starts at
    lambda w, and from which minus Adam's direction is subtracted. It is
    enlarged by a power of two, as the plain rule has it for its norm.
    """
    if not decay_in_ratio:
        decay(w, learning_rate, weight_decay)
        weight_decay = 0.0
    start = (
        tf.zeros_like(g)
        if is_zero(weight_decay)
        else ENLARGED * weight_decay * w
    )
    passing = passing_variable(start)
    apply_adam(xp, passing, g, m, s, -ENLARGED, **moments)
    u = raw_ops.ReadVariableOp(resource=passing, dtype=g.dtype)
    u_norm = l2_norm(xp, u) / ENLARGED
    r = lamb_ratio(xp, l2_norm(xp, w), u_norm, zero_norm_ratio)
    subtract(w.handle, learning_rate * r / ENLARGED, u)


def once_a_graph(given: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
    """Returns what ``compute`` does, of which a graph has but one.

    What each of 161 variables has of its own are a thousand operations, and
    most of the time that it takes to trace a step.

    Args:
        given: what it is computed from. Tensors count by identity.
        compute: returns it; does not wait for the gradient of the variable
            that comes first.
    """
    if tf.executing_eagerly():
        return compute()
    graph = tf.compat.v1.get_default_graph()
    if not hasattr(graph, SHARED):
        setattr(graph, SHARED, {})
    found = getattr(graph, SHARED)
    key = tuple(id(x) if tf.is_tensor(x) else repr(x) for x in given)
    if key not in found:
        with tf.control_dependencies(None):
            # With the tensors, lest their identities be given away again.
            found[key] = given, compute()
    return found[key][1]


def constant(value: Any, dtype: tf.DType) -> Array:
    """Returns a constant, of which a graph has but one."""
    return once_a_graph((value, dtype), lambda: tf.constant(value, dtype))


def scalar(value: Scalar, dtype: tf.DType) -> Array:
    """Returns a hyperparameter as a tensor."""
    if isinstance(value, (int, float)):
        return constant(value, dtype)
    return tf.cast(value, dtype)


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
    xp: Namespace,
    target: Array,
    g: Array,
    m: tf.Variable,
    s: tf.Variable,
    rate: Scalar,
    *,
    step: Array,
    beta_1: Scalar,
    beta_2: Scalar,
    epsilon: Scalar,
    bias_correction: bool = True,
) -> None:
    """Updates the moments, subtracts the rate times Adam's direction.

    The kernel does ``target <- target - rate m / (sqrt(s) + eps)``, without
    the corrections c_1 and c_2 of the moments: the rate and epsilon that it is
    given make up for them, as ``(m / c_1) / (sqrt(s / c_2) + eps)`` is
    ``(sqrt(c_2) / c_1) m / (sqrt(s) + eps sqrt(c_2))``. They make up as well
    for its ``1 - beta``, which it rounds: of beta_2 = 0.999 in float32 it is
    1.3e-5 too small, and with it every s.
    """
    dtype = g.dtype

    def compute() -> tuple[Array, dict[str, Array]]:
        c_1, c_2 = lost(beta_1, dtype), lost(beta_2, dtype)
        if bias_correction:
            c_1 *= one_minus_power(xp, beta_1, step + 1)
            c_2 *= one_minus_power(xp, beta_2, step + 1)
        root = tf.sqrt(scalar(c_2, dtype))
        return root / scalar(c_1, dtype), {
            "beta1_power": tf.zeros((), dtype),
            "beta2_power": tf.zeros((), dtype),
            "beta1": scalar(beta_1, dtype),
            "beta2": scalar(beta_2, dtype),
            "epsilon": epsilon * root,
        }

    given = (step, beta_1, beta_2, epsilon, bias_correction, dtype)
    factor, scalars = once_a_graph(given, compute)
    raw_ops.ResourceApplyAdam(
        var=target, m=m.handle, v=s.handle, lr=rate * factor, grad=g, **scalars
    )


def lost(beta: Scalar, dtype: tf.DType) -> float:
    """Returns by how much ``1 - beta`` changes where ``dtype`` rounds beta.

    Of a beta that is a tensor all rules have what is left.

    >>> round(lost(0.999, tf.float32), 6)
    0.999987
    """
    if not isinstance(beta, (int, float)):
        return 1.0
    return float(1 - dtype.as_numpy_dtype(beta)) / (1 - beta)


def decay(w: tf.Variable, learning_rate: Scalar, weight_decay: Scalar) -> None:
    """Does ``w <- w - eta lambda w``, with the w that was there before."""
    if not is_zero(weight_decay):
        w.assign_sub(learning_rate * weight_decay * w)


def passing_variable(start: Array) -> Array:
    """Returns the handle of a variable that the step leaves nothing of."""
    handle = raw_ops.VarHandleOp(
        dtype=start.dtype, shape=start.shape, shared_name=ANONYMOUS
    )
    raw_ops.AssignVariableOp(resource=handle, value=start)
    return handle


def subtract(handle: Array, factor: Array, values: Array) -> None:
    """Does ``w <- w - factor values`` in one pass."""
    raw_ops.ResourceApplyGradientDescent(var=handle, alpha=factor, delta=values)


def l2_norm(xp: Namespace, values: Array) -> Array:
    """Returns the L2 norm of a whole variable, without a square in memory."""
    del xp
    return tf.math.reduce_euclidean_norm(values)


def gradient_norm(xp: Namespace, g: Array) -> Array:
    """Returns the L2 norm of a gradient, however large or small.

    What is computed anew where squares leave the dtype is a part of ``g``,
    which elsewhere has no elements: a ``tf.cond`` would cost more to trace
    than all else.
    """
    norm, dtype = l2_norm(xp, g), g.dtype
    usual = is_usual(tf, norm)
    values = tf.reshape(g, constant([-1], tf.int32))
    none, every = (constant([x], tf.int32) for x in (0, -1))
    again = raw_ops.Slice(
        input=values, begin=none, size=tf.where(usual, none, every)
    )
    large, small = (constant(x, dtype) for x in (FACTOR, 1 / FACTOR))
    scale = tf.where(norm < constant(1, dtype), large, small)
    return tf.where(usual, norm, l2_norm(xp, scale * again) / scale)
