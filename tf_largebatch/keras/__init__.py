"""The optimizers and schedules for Keras 3, on any of its backends.

>>> import keras
>>> from tf_largebatch.keras import LARS
>>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
>>> model.compile(optimizer=LARS(0.1), loss="mse")
"""

from keras.saving import register_keras_serializable

from tf_largebatch import optimizers, schedules
from tf_largebatch.keras.optimizer import KerasOptimizer
from tf_largebatch.keras.schedule import KerasSchedule
from tf_largebatch.optimizers.base import Family
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

adapt = Family(
    "keras", KerasOptimizer, KerasSchedule, register_keras_serializable
).adapt

HeavyBall = adapt(optimizers.HeavyBall)
Nesterov = adapt(optimizers.Nesterov)
LARS = adapt(optimizers.LARS)
Adam = adapt(optimizers.Adam)
LAMB = adapt(optimizers.LAMB)

PiecewisePolynomial = adapt(schedules.PiecewisePolynomial)
Cosine = adapt(schedules.Cosine)
BertPolynomial = adapt(schedules.BertPolynomial)
