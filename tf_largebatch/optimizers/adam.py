"""Adam with decoupled weight decay as an optimizer, without its Keras."""

from typing import Any, ClassVar

from tf_largebatch.optimizers.base import LargeBatchOptimizer, Step
from tf_largebatch.rules.arrays import Array
from tf_largebatch.variables import BIAS_AND_NORM, Selector


class Adam(LargeBatchOptimizer):
    """Adam with decoupled weight decay, with or without bias correction.

    ``m <- b1 m + (1-b1) g; s <- b2 s + (1-b2) g^2;
    mh = m / (1-b1^(t+1)); sh = s / (1-b2^(t+1));
    w <- w - eta (mh / (sqrt(sh) + eps) + lambda w)``.

    A selector is `BIAS_AND_NORM`, regular expressions for a variable's full
    path, a function of path and shape, or `()` for no variable; see
    :mod:`tf_largebatch.variables`.

    Args:
        learning_rate: eta; a float, a schedule or a scalar variable. Keras's
            callbacks, such as `ReduceLROnPlateau`, cannot change a schedule,
            and tf_keras's do not say so.
            Defaults to `0.001`.
        beta_1: decay of the first moment. Defaults to `0.9`.
        beta_2: decay of the second moment. Defaults to `0.999`.
        epsilon: added to the root. Defaults to `1e-8`.
        weight_decay: lambda, decoupled. Defaults to `0`.
        exclude_from_weight_decay: selector of the variables without weight
            decay. Defaults to biases and norms.
        bias_correction: False takes m and s themselves, as the BERT code
            base does; its early steps are *larger*. Defaults to `True`.
        **kwargs: arguments of the Keras base class, such as `name` and
            `global_clipnorm`.

    Raises:
        ValueError: an argument is out of its range, of the wrong type or of
            the other Keras; at build, a pattern matches no variable.

    Example, the optimizer of the BERT code base:

    >>> from tf_largebatch.keras import Adam
    >>> optimizer = Adam(
    ...     1e-4, epsilon=1e-6, weight_decay=0.01, bias_correction=False,
    ...     global_clipnorm=1.0)

    Source: Kingma and Ba 2014; google-research/bert, optimization.py.
    """

    slot_names: ClassVar[tuple[str, ...]] = ("m", "s")
    has_kernels: ClassVar[bool] = True
    bias_correction: bool

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: Any = 1e-8,
        weight_decay: Any = 0.0,
        exclude_from_weight_decay: Selector = BIAS_AND_NORM,
        bias_correction: bool = True,
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate,
            hyperparameters={
                "beta_1": beta_1,
                "beta_2": beta_2,
                "epsilon": epsilon,
                "weight_decay": weight_decay,
            },
            options={"bias_correction": bias_correction},
            selectors={"exclude_from_weight_decay": exclude_from_weight_decay},
            **kwargs,
        )

    def step(self, at: Step) -> tuple[Array, ...]:
        return at.by(
            "adam",
            step=at.t,
            bias_correction=self.bias_correction,
            **at.numbers,
        )
