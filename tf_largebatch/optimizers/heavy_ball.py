"""Heavy-ball momentum as a Keras optimizer, without its Keras."""

from typing import Any, ClassVar

from tf_largebatch.optimizers.base import LargeBatchOptimizer, Step
from tf_largebatch.rules.arrays import Array
from tf_largebatch.variables import BIAS_AND_NORM, Selector


class HeavyBall(LargeBatchOptimizer):
    """Heavy-ball momentum: ``v <- mu v + g; w <- w - eta v``.

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
            ``v <- mu v + eta g; w <- w - v``, as `keras.optimizers.SGD`
            does. Defaults to `False`.
        **kwargs: arguments of the Keras base class, such as `name` and
            `global_clipnorm`.

    Raises:
        ValueError: an argument is out of its range, of the wrong type or of
            the other Keras; at build, a pattern matches no variable.

    Example, as `keras.optimizers.SGD` computes it:

    >>> from tf_largebatch.keras import HeavyBall
    >>> optimizer = HeavyBall(0.1, learning_rate_in_momentum=True)
    >>> optimizer.momentum
    0.9

    Source: Polyak 1964; the fallback of the published LARS pipeline
    (section 2.1.3 of the paper).
    """

    slot_names: ClassVar[tuple[str, ...]] = ("momentum",)
    has_kernels: ClassVar[bool] = True
    learning_rate_in_momentum: bool
    rule: ClassVar[str] = "heavy_ball"

    def __init__(
        self,
        learning_rate: Any,
        momentum: Any = 0.9,
        weight_decay: Any = 0.0,
        exclude_from_weight_decay: Selector = BIAS_AND_NORM,
        learning_rate_in_momentum: bool = False,
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate,
            hyperparameters={
                "momentum": momentum,
                "weight_decay": weight_decay,
            },
            options={"learning_rate_in_momentum": learning_rate_in_momentum},
            selectors={"exclude_from_weight_decay": exclude_from_weight_decay},
            **kwargs,
        )

    def step(self, at: Step) -> tuple[Array, ...]:
        return at.by(
            self.rule,
            learning_rate_in_momentum=self.learning_rate_in_momentum,
            **at.numbers,
        )
