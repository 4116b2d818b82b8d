"""Strategies over logical CPU devices, for scripts run by ``run_script``."""

import tensorflow as tf


def make_devices(count: int) -> None:
    """Makes logical devices, which must be done before TensorFlow starts."""
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
