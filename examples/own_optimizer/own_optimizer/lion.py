"""Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2)."""

from typing import Any, ClassVar

from tf_largebatch.optimizers.base import LargeBatchOptimizer, Step
from tf_largebatch.variables import BIAS_AND_NORM, Selector


def lion(
    xp: Any,
    w: Any,
    g: Any,
    m: Any,
    *,
    learning_rate: Any,
    beta_1: Any,
    beta_2: Any,
    weight_decay: Any,
) -> tuple[Any, Any]:
    """Takes one step; returns the new ``w`` and ``m``.

    ``c = b1 m + (1 - b1) g; w <- w - eta (sign(c) + lambda w);
    m <- b2 m + (1 - b2) g``.

    Args:
        xp: array namespace, such as numpy.
        w: parameter.
        g: gradient.
        m: average of the gradients; zeros before the first step.
        learning_rate: eta.
        beta_1: share of the average in the direction.
        beta_2: decay of the average.
        weight_decay: lambda, decoupled.
    """
    direction = xp.sign(beta_1 * m + (1 - beta_1) * g)
    m = beta_2 * m + (1 - beta_2) * g
    return w - learning_rate * (direction + weight_decay * w), m


class Lion(LargeBatchOptimizer):
    """Lion, of neither Keras family: tf-largebatch makes it one of either.

    Args:
        learning_rate: eta; a float, a schedule or a scalar variable.
        beta_1: share of the average in the direction. Defaults to 0.9.
        beta_2: decay of the average. Defaults to 0.99.
        weight_decay: lambda, decoupled. Defaults to 0.
        exclude_from_weight_decay: selector of the variables without weight
            decay. Defaults to biases and norms.
        **kwargs: arguments of the Keras base class, such as `name`.
    """

    slot_names: ClassVar[tuple[str, ...]] = ("m",)

    def __init__(
        self,
        learning_rate: Any = 1e-4,
        beta_1: Any = 0.9,
        beta_2: Any = 0.99,
        weight_decay: Any = 0.0,
        exclude_from_weight_decay: Selector = BIAS_AND_NORM,
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate,
            hyperparameters={
                "beta_1": beta_1,
                "beta_2": beta_2,
                "weight_decay": weight_decay,
            },
            options={},
            selectors={"exclude_from_weight_decay": exclude_from_weight_decay},
            **kwargs,
        )

    def step(self, at: Step) -> tuple[Any, Any]:
        """Returns the new parameter and the new slot."""
        return lion(at.xp, at.w, at.g, *at.slots, **at.numbers)
