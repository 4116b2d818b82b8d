"""The optimizers and schedules for tf_keras, the Model Garden's Keras.

>>> import tf_keras
>>> from tf_largebatch.tf_keras import LARS
>>> model = tf_keras.Sequential([tf_keras.layers.Dense(2)])
>>> model.compile(optimizer=LARS(0.1), loss="mse")
"""

from tf_keras.saving import register_keras_serializable

from tf_largebatch import optimizers, schedules
from tf_largebatch.optimizers.base import check_adaptable, joined
from tf_largebatch.tf_keras.optimizer import TFKerasOptimizer as _Optimizer
from tf_largebatch.tf_keras.schedule import TFKerasSchedule as _Schedule
from tf_largebatch.variables import BIAS_AND_NORM

__all__ = [
    "BIAS_AND_NORM",
    "LAMB",
    "LARS",
    "Adam",
    "BertPolynomial",
    "Cosine",
    "HeavyBall",
    "Nesterov",
    "PiecewisePolynomial",
    "adapt",
]

_register = register_keras_serializable("tf_largebatch")


def _explained(kind: type) -> str:
    """Returns a class's docstring with its example for tf_keras."""
    text = kind.__doc__ or ""
    return text.replace("tf_largebatch.keras", "tf_largebatch.tf_keras")


@_register
class HeavyBall(optimizers.HeavyBall, _Optimizer):
    __doc__ = _explained(optimizers.HeavyBall)


@_register
class Nesterov(optimizers.Nesterov, _Optimizer):
    __doc__ = _explained(optimizers.Nesterov)


@_register
class LARS(optimizers.LARS, _Optimizer):
    __doc__ = _explained(optimizers.LARS)


@_register
class Adam(optimizers.Adam, _Optimizer):
    __doc__ = _explained(optimizers.Adam)


@_register
class LAMB(optimizers.LAMB, _Optimizer):
    __doc__ = _explained(optimizers.LAMB)


@_register
class PiecewisePolynomial(schedules.PiecewisePolynomial, _Schedule):
    __doc__ = _explained(schedules.PiecewisePolynomial)


@_register
class Cosine(schedules.Cosine, _Schedule):
    __doc__ = _explained(schedules.Cosine)


@_register
class BertPolynomial(schedules.BertPolynomial, _Schedule):
    __doc__ = _explained(schedules.BertPolynomial)


def adapt(kind: type) -> type:
    """Returns an optimizer's or a schedule's class for tf_keras.

    Args:
        kind: one of neither Keras family, a subclass of
            :class:`tf_largebatch.optimizers.base.LargeBatchOptimizer` or of
            :class:`tf_largebatch.schedules.Schedule`.

    Raises:
        ValueError: it is no such class.

    >>> class Flat(schedules.Schedule):
    ...     function = staticmethod(lambda xp, step, peak, total_steps: peak)
    ...     def __init__(self, peak, total_steps):
    ...         super().__init__(peak=peak, total_steps=total_steps)
    >>> adapt(Flat)(0.1, total_steps=5)(3)
    0.1
    """
    check_adaptable(kind)
    own = globals().get(kind.__name__)
    if own in kind.__subclasses__():
        return own  # Another of its name would be loaded in its stead.
    is_schedule = issubclass(kind, schedules.Schedule)
    base = _Schedule if is_schedule else _Optimizer
    return joined(kind, base, "tf_keras", register_keras_serializable)
