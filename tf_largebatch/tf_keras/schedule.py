"""What stands between a schedule function and a tf_keras schedule."""

from typing import Any

import tf_keras

from tf_largebatch.tf_keras import namespace


class TFKerasSchedule(tf_keras.optimizers.schedules.LearningRateSchedule):
    """To be combined with a class of :mod:`tf_largebatch.schedules`."""

    def __call__(self, step: Any) -> Any:
        """Returns the rate at ``step``, a float32 tensor."""
        return self.rate(namespace, step)
