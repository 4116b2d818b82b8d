"""Dropout whose noise is a function of the seed and of the examples' numbers.

Keras's own draws from a state that no checkpoint has. With this one a run that
goes on where it stopped drops what it would have dropped, and so do other
devices that take the same micro-batches.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras

SEED: contextvars.ContextVar[tf.Tensor] = contextvars.ContextVar("seed")


def make_stateless(model: tf_keras.Model) -> None:
    """Makes the network's dropout a function of what :func:`seeded` is given.

    The network can then be called for training inside of that only.
    """
    layers = (
        each
        for each in model.submodules
        if isinstance(each, tf_keras.layers.Dropout)
    )
    for number, layer in enumerate(layers):
        layer._random_generator.dropout = functools.partial(drop, number)


@contextlib.contextmanager
def seeded(seed: int, number: tf.Tensor) -> Iterator[None]:
    """Lets dropout inside the block depend on two integers alone.

    Args:
        seed: of the run.
        number: of the first example in the run.
    """
    both = tf.stack([tf.constant(seed, tf.int64), tf.cast(number, tf.int64)])
    before = SEED.set(both)
    try:
        yield
    finally:
        SEED.reset(before)


def drop(
    layer: int, inputs: tf.Tensor, rate: float, noise_shape: Any = None
) -> tf.Tensor:
    """Returns inputs after the dropout of a layer, known by its number."""
    return tf.nn.experimental.stateless_dropout(
        inputs,
        rate,
        seed=tf.random.fold_in(SEED.get(), layer),
        noise_shape=noise_shape,
    )
