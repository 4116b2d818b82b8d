"""The optimizers without their Keras: one file an optimizer, written once.

A class here holds the constructor, its checks, and the call of the update
rule. :mod:`tf_largebatch.keras` and :mod:`tf_largebatch.tf_keras` combine it
with their own base class; use those.
"""

from tf_largebatch.optimizers.adam import Adam
from tf_largebatch.optimizers.heavy_ball import HeavyBall
from tf_largebatch.optimizers.lamb import LAMB
from tf_largebatch.optimizers.lars import LARS
from tf_largebatch.optimizers.nesterov import Nesterov

# By the name that tables and reports have.
OPTIMIZERS = {
    kind.__name__: kind for kind in (Adam, HeavyBall, LAMB, LARS, Nesterov)
}
