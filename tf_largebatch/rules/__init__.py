"""The update rules, one short file an algorithm, written once.

Every rule is a pure function of arrays: it takes an array namespace ``xp``
(``numpy``, ``jax.numpy``, ``keras.ops``, ...), the parameter ``w``, the
gradient ``g`` and the optimizer's slots, and returns the new parameter and
the new slots. Nothing here imports a deep-learning library.

>>> import numpy
>>> from tf_largebatch import rules
>>> w, v = rules.nesterov(
...     numpy, w=numpy.array([1.0]), g=numpy.array([2.0]),
...     v=numpy.array([0.0]), learning_rate=0.1, momentum=0.9)
>>> w
array([0.62])
"""

from tf_largebatch.rules.adam import adam, adam_direction
from tf_largebatch.rules.heavy_ball import heavy_ball
from tf_largebatch.rules.lamb import lamb
from tf_largebatch.rules.lars import lars
from tf_largebatch.rules.nesterov import nesterov
from tf_largebatch.rules.variants import (
    LAMB_VARIANTS,
    LARS_VARIANTS,
    LAMBVariant,
    LARSVariant,
)

__all__ = [
    "LAMB_VARIANTS",
    "LARS_VARIANTS",
    "LAMBVariant",
    "LARSVariant",
    "adam",
    "adam_direction",
    "heavy_ball",
    "lamb",
    "lars",
    "nesterov",
]
