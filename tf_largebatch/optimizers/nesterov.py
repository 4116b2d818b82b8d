"""The paper's Nesterov momentum as a Keras optimizer, without its Keras."""

from typing import ClassVar

from tf_largebatch.optimizers.heavy_ball import HeavyBall


class Nesterov(HeavyBall):
    """Nesterov momentum: ``v <- mu v + g; w <- w - eta (mu v + g)``.

    This is the paper's section 2.1.1. `keras.optimizers.SGD(nesterov=True)`
    is another algorithm as soon as the rate changes: it keeps the rate inside
    the buffer, which `learning_rate_in_momentum=True` does here.

    A selector is `BIAS_AND_NORM`, regular expressions for a variable's full
    path, a function of path and shape, or `()` for no variable; see
    :mod:`tf_largebatch.variables`.

    Args:
        learning_rate: eta; a float, a schedule or a scalar variable. Keras's
            callbacks, such as `ReduceLROnPlateau`, cannot change a schedule,
            and tf_keras's do not say so.
        momentum: mu. Defaults to `0.9`.
        weight_decay: lambda, coupled: ``g <- g + lambda w``, the gradient of
            ``(lambda / 2) ||w||^2``. Defaults to `0`.
        exclude_from_weight_decay: selector of the variables without weight
            decay. Defaults to biases and norms.
        learning_rate_in_momentum: True keeps the rate inside the buffer,
            ``v <- mu v + eta g; w <- w - (mu v + eta g)``. Defaults to
            `False`.
        **kwargs: arguments of the Keras base class, such as `name` and
            `global_clipnorm`.

    Raises:
        ValueError: an argument is out of its range, of the wrong type or of
            the other Keras; at build, a pattern matches no variable.

    Example, the paper's Configuration B:

    >>> from tf_largebatch.keras import Nesterov, PiecewisePolynomial
    >>> optimizer = Nesterov(
    ...     PiecewisePolynomial(7.05, total_steps=2512, warmup_steps=706,
    ...                         final=6e-6, warmup_power=2.0),
    ...     momentum=1 - 0.02397, weight_decay=5.8e-5)

    Source: section 2.1.1 of the paper.
    """

    rule: ClassVar[str] = "nesterov"
