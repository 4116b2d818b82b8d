"""LARS and its published variants as a Keras optimizer, without its Keras."""

from typing import Any, ClassVar

from tf_largebatch.optimizers.base import (
    LargeBatchOptimizer,
    Step,
    find_variant,
    first_given,
)
from tf_largebatch.rules import LARS_VARIANTS
from tf_largebatch.rules.arrays import Array
from tf_largebatch.variables import BIAS_AND_NORM, Selector


class LARS(LargeBatchOptimizer):
    """LARS, with heavy-ball momentum for the variables it does not adapt.

    ``r = c ||w|| / (||g|| + lambda ||w|| + eps)``, 1 where a norm is 0;
    ``v <- mu v + eta r (g + lambda w); w <- w - v``. Biases and norms get
    heavy-ball momentum with the rate *outside* the buffer and no decay, as
    the published LARS pipeline has it.

    A selector is `BIAS_AND_NORM`, regular expressions for a variable's full
    path, a function of path and shape, or `()` for no variable; see
    :mod:`tf_largebatch.variables`.

    Args:
        learning_rate: eta; a float, a schedule or a scalar variable. Keras's
            callbacks, such as `ReduceLROnPlateau`, cannot change a schedule,
            and tf_keras's do not say so.
        momentum: mu, of LARS and of heavy ball. Defaults to `0.929`.
        weight_decay: lambda. Defaults to `1e-4`. With variant `contrib_old`
            it enters the ratio alone, and the loss must have the decay.
        trust_coefficient: c. Defaults to `0.001`.
        epsilon: added to the ratio's denominator. None means the variant's,
            which is `0` for the default one.
        exclude_from_layer_adaptation: selector of the variables that get
            heavy-ball momentum. Defaults to biases and norms; `()` adapts
            every variable.
        exclude_from_weight_decay: selector of the variables without weight
            decay. Defaults to biases and norms; `()` decays every variable.
        variant: which published algorithm: `mlperf` (default), `mlperf_tf`,
            `contrib_old`, `optax`, `model_garden`, `model_garden_outside`,
            `timm` or `flax_2020`; see
            :data:`tf_largebatch.rules.LARS_VARIANTS`.
        **kwargs: arguments of the Keras base class, such as `name` and
            `global_clipnorm`.

    Raises:
        ValueError: an argument is out of its range, of the wrong type or of
            the other Keras; at build, a pattern matches no variable.

    Example, the published pipeline at batch 32,768:

    >>> from tf_largebatch.keras import LARS, PiecewisePolynomial
    >>> optimizer = LARS(
    ...     PiecewisePolynomial(29.0, total_steps=2512, warmup_steps=706.5,
    ...                         final=1e-4, decay_steps=1806.5))

    Source: You et al. 2017; MLPerf v0.7, resnet-research-JAX, train.py, and
    flax.optim.LARS.
    """

    slot_names: ClassVar[tuple[str, ...]] = ("momentum",)
    has_kernels: ClassVar[bool] = True
    variant: str

    def __init__(
        self,
        learning_rate: Any,
        momentum: Any = 0.929,
        weight_decay: Any = 1e-4,
        trust_coefficient: Any = 0.001,
        epsilon: float | Any | None = None,
        exclude_from_layer_adaptation: Selector = BIAS_AND_NORM,
        exclude_from_weight_decay: Selector = BIAS_AND_NORM,
        variant: str = "mlperf",
        **kwargs: Any,
    ):
        published = find_variant(LARS_VARIANTS, variant)
        super().__init__(
            learning_rate,
            hyperparameters={
                "momentum": momentum,
                "weight_decay": weight_decay,
                "trust_coefficient": trust_coefficient,
                "epsilon": first_given(epsilon, published.epsilon),
            },
            options={"variant": variant},
            selectors={
                "exclude_from_layer_adaptation": exclude_from_layer_adaptation,
                "exclude_from_weight_decay": exclude_from_weight_decay,
            },
            **kwargs,
        )

    def step(self, at: Step) -> tuple[Array, ...]:
        variant = LARS_VARIANTS[self.variant]
        if at.adapted:
            return at.by("lars", variant=variant, **at.numbers)
        inside = variant.fallback_learning_rate_in_momentum
        decay = at.numbers["weight_decay"] if variant.adds_decay else 0.0
        return at.by(
            "heavy_ball",
            learning_rate=at.numbers["learning_rate"],
            momentum=at.numbers["momentum"],
            weight_decay=decay,
            learning_rate_in_momentum=inside,
        )
