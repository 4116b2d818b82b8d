"""The optimizers and schedules for Keras 3, on any of its backends.

>>> import keras
>>> from tf_largebatch.keras import LARS
>>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
>>> model.compile(optimizer=LARS(0.1), loss="mse")
"""

from keras.saving import register_keras_serializable

from tf_largebatch import optimizers, schedules
from tf_largebatch.keras.optimizer import KerasOptimizer as _Optimizer
from tf_largebatch.keras.schedule import KerasSchedule as _Schedule
from tf_largebatch.optimizers.base import check_adaptable, joined
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


@_register
class HeavyBall(optimizers.HeavyBall, _Optimizer):
    __doc__ = optimizers.HeavyBall.__doc__


@_register
class Nesterov(optimizers.Nesterov, _Optimizer):
    __doc__ = optimizers.Nesterov.__doc__


@_register
class LARS(optimizers.LARS, _Optimizer):
    __doc__ = optimizers.LARS.__doc__


@_register
class Adam(optimizers.Adam, _Optimizer):
    __doc__ = optimizers.Adam.__doc__


@_register
class LAMB(optimizers.LAMB, _Optimizer):
    __doc__ = optimizers.LAMB.__doc__


@_register
class PiecewisePolynomial(schedules.PiecewisePolynomial, _Schedule):
    __doc__ = schedules.PiecewisePolynomial.__doc__


@_register
class Cosine(schedules.Cosine, _Schedule):
    __doc__ = schedules.Cosine.__doc__


@_register
class BertPolynomial(schedules.BertPolynomial, _Schedule):
    __doc__ = schedules.BertPolynomial.__doc__


def adapt(kind: type) -> type:
    """Returns an optimizer's or a schedule's class for Keras 3.

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
    return joined(kind, base, "keras", register_keras_serializable)
