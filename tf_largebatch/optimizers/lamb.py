"""LAMB and its published variants as a Keras optimizer, without its Keras."""

from typing import Any, ClassVar

from tf_largebatch.optimizers.base import (
    LargeBatchOptimizer,
    Step,
    find_variant,
    first_given,
)
from tf_largebatch.rules import LAMB_VARIANTS
from tf_largebatch.rules.arrays import Array
from tf_largebatch.variables import BIAS_AND_NORM, Selector


class LAMB(LargeBatchOptimizer):
    """LAMB, with Adam for the variables it does not adapt.

    ``u = mh / (sqrt(sh) + eps) + lambda w; r = ||w|| / ||u||``, and
    ``zero_norm_ratio`` where a norm is 0; ``w <- w - eta r u``. The moments
    are those of :class:`Adam`.

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
        epsilon: added to the root. None means the variant's, which is `1e-6`
            for the default one.
        weight_decay: lambda. Defaults to `0.01`.
        exclude_from_layer_adaptation: selector of the variables that get
            Adam. Defaults to biases and norms; `()` adapts every variable.
        exclude_from_weight_decay: selector of the variables without weight
            decay. Defaults to biases and norms; `()` decays every variable.
        bias_correction: whether the moments are corrected. None means the
            variant's, which is True for the default one.
        zero_norm_ratio: the ratio where a norm is 0. None means the
            variant's, which is `1` for the default one; with `0` a variable
            that starts at zero never moves.
        fallback_epsilon: epsilon of Adam. None means `epsilon`.
        variant: which published algorithm: `mlperf` (default), `keras`,
            `flax` or `bert_2019`; see
            :data:`tf_largebatch.rules.LAMB_VARIANTS`.
        **kwargs: arguments of the Keras base class, such as `name` and
            `global_clipnorm`.

    Raises:
        ValueError: an argument is out of its range, of the wrong type or of
            the other Keras; at build, a pattern matches no variable.

    Example:

    >>> from tf_largebatch.keras import LAMB
    >>> optimizer = LAMB(0.001, variant="bert_2019")
    >>> optimizer.bias_correction
    False

    Source: You et al. 2019; MLPerf v0.7 BERT, lamb_optimizer.py.
    """

    slot_names: ClassVar[tuple[str, ...]] = ("m", "s")
    has_kernels: ClassVar[bool] = True
    bias_correction: bool
    variant: str

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: float | Any | None = None,
        weight_decay: Any = 0.01,
        exclude_from_layer_adaptation: Selector = BIAS_AND_NORM,
        exclude_from_weight_decay: Selector = BIAS_AND_NORM,
        bias_correction: bool | None = None,
        zero_norm_ratio: float | Any | None = None,
        fallback_epsilon: float | Any | None = None,
        variant: str = "mlperf",
        **kwargs: Any,
    ):
        published = find_variant(LAMB_VARIANTS, variant)
        super().__init__(
            learning_rate,
            hyperparameters={
                "beta_1": beta_1,
                "beta_2": beta_2,
                "epsilon": first_given(epsilon, published.epsilon),
                "weight_decay": weight_decay,
                "zero_norm_ratio": first_given(
                    zero_norm_ratio, published.zero_norm_ratio
                ),
                "fallback_epsilon": fallback_epsilon,
            },
            options={
                "bias_correction": first_given(
                    bias_correction, published.bias_correction
                ),
                "variant": variant,
            },
            selectors={
                "exclude_from_layer_adaptation": exclude_from_layer_adaptation,
                "exclude_from_weight_decay": exclude_from_weight_decay,
            },
            **kwargs,
        )

    def step(self, at: Step) -> tuple[Array, ...]:
        numbers = {
            **at.numbers,
            "step": at.t,
            "bias_correction": self.bias_correction,
        }
        fallback_epsilon = numbers.pop("fallback_epsilon")
        if at.adapted:
            decay_in_ratio = LAMB_VARIANTS[self.variant].decay_in_ratio
            return at.by("lamb", decay_in_ratio=decay_in_ratio, **numbers)
        del numbers["zero_norm_ratio"]
        epsilon = first_given(fallback_epsilon, numbers["epsilon"])
        return at.by("adam", **{**numbers, "epsilon": epsilon})
