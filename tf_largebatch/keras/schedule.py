"""What stands between a schedule function and a Keras 3 schedule."""

from typing import Any

import keras
from keras import ops


class KerasSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """To be combined with a class of :mod:`tf_largebatch.schedules`."""

    def __call__(self, step: Any) -> Any:
        """Returns the rate at ``step``, a float32 tensor."""
        return self.rate(ops, step)
