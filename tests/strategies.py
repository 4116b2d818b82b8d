"""TensorFlow in the tests and their scripts: strategies, and no autotuning."""

import tensorflow as tf


def leave_out_autotuning() -> None:
    """Turns off tf.data's autotuning of all iterators.

    The thread that tunes can miss that its iterator ends. It then sleeps for
    up to a minute, and whatever deletes the iterator waits.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    iterate = tf.data.Dataset.__iter__
    tf.data.Dataset.__iter__ = lambda self: iterate(self.with_options(options))
    # Strategies make iterators without that method.
    strategy = tf.distribute.Strategy
    from_function = strategy.distribute_datasets_from_function
    strategy.distribute_datasets_from_function = lambda self, make, *more: (
        from_function(self, lambda of: make(of).with_options(options), *more)
    )


def make_devices(count: int) -> None:
    """Makes logical devices, which must be done before TensorFlow starts."""
    leave_out_autotuning()
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * count,
    )


def strategy_for(replicas: int) -> tf.distribute.Strategy:
    """Returns a strategy of so many devices."""
    if replicas == 1:
        return tf.distribute.OneDeviceStrategy("CPU:0")
    # Collective operations admit one group of devices in a process.
    return tf.distribute.MirroredStrategy(
        [f"CPU:{number}" for number in range(replicas)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
