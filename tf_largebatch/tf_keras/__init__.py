"""The optimizers and schedules for tf_keras, the Model Garden's Keras.

>>> import tf_keras
>>> from tf_largebatch.tf_keras import LARS
>>> model = tf_keras.Sequential([tf_keras.layers.Dense(2)])
>>> model.compile(optimizer=LARS(0.1), loss="mse")
"""

from tf_keras.saving import register_keras_serializable

from tf_largebatch import optimizers, schedules
from tf_largebatch.optimizers.base import Family
from tf_largebatch.tf_keras.optimizer import TFKerasOptimizer
from tf_largebatch.tf_keras.schedule import TFKerasSchedule
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
    "tf_keras", TFKerasOptimizer, TFKerasSchedule, register_keras_serializable
).adapt

HeavyBall = adapt(optimizers.HeavyBall)
Nesterov = adapt(optimizers.Nesterov)
LARS = adapt(optimizers.LARS)
Adam = adapt(optimizers.Adam)
LAMB = adapt(optimizers.LAMB)

PiecewisePolynomial = adapt(schedules.PiecewisePolynomial)
Cosine = adapt(schedules.Cosine)
BertPolynomial = adapt(schedules.BertPolynomial)
