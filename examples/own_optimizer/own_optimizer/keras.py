"""For Keras 3: `model.compile(optimizer=Lion(1e-4, weight_decay=0.1))`."""

from own_optimizer import lion, trapezoid
from tf_largebatch.keras import adapt

Lion = adapt(lion.Lion)
Trapezoid = adapt(trapezoid.Trapezoid)
