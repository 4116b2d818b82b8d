"""For tf_keras, the Model Garden's Keras."""

from own_optimizer import lion, trapezoid
from tf_largebatch.tf_keras import adapt

Lion = adapt(lion.Lion)
Trapezoid = adapt(trapezoid.Trapezoid)
