"""TensorFlow's functions under the names of the array namespaces.

``tensorflow.experimental.numpy`` has them too, but promotes dtypes its own
way and adds casts to every operation of the graph.
"""

from typing import Any

import tensorflow as tf

abs = tf.abs
clip = tf.clip_by_value
cond = tf.cond
exp = tf.exp
expm1 = tf.math.expm1
log = tf.math.log
logical_and = tf.logical_and
logical_or = tf.logical_or
maximum = tf.maximum
mean = tf.reduce_mean
minimum = tf.minimum
ones_like = tf.ones_like
sign = tf.sign
sin = tf.sin
sqrt = tf.sqrt
square = tf.square
sum = tf.reduce_sum
where = tf.where


def array(value: Any, dtype: Any = None) -> tf.Tensor:
    """Returns a value as a tensor, of ``dtype`` if one is given."""
    if isinstance(value, float):
        # By itself it would become float32, whatever is asked for.
        return tf.constant(value, dtype)
    tensor = tf.convert_to_tensor(value)
    return tensor if dtype is None else tf.cast(tensor, dtype)
