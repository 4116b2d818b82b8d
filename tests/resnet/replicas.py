"""Trains a ghost batch norm on 1 and 2 devices; saves where it ends.

    python replicas.py OUTPUT.npz

A script, because logical devices must be made before TensorFlow starts.
"""

import sys
import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras
from strategies import make_devices, strategy_for

from tf_largebatch.resnet import ghost_batch_norm

STEPS = 2
BATCH = 24
# Replicas, and micro-batches that each takes in a step; 0: not deferred.
WAYS = [(1, 3), (2, 0), (2, 3)]


def main(output: str) -> None:
    make_devices(2)
    arrays = {"images": images()}
    for replicas, micro_batches in WAYS:
        for name, value in train(replicas, micro_batches).items():
            arrays[f"{replicas} x {micro_batches} {name}"] = value
    np.savez(output, **arrays)


def images() -> np.ndarray:
    """Returns the images of all steps, each example at a level of its own."""
    rng = np.random.default_rng(0)
    levels = rng.normal(size=(STEPS * BATCH, 1, 1, 3))
    noise = rng.normal(size=(STEPS * BATCH, 2, 2, 3))
    return (levels + noise).astype("float32")


def train(replicas: int, micro_batches: int) -> dict[str, np.ndarray]:
    """Takes all steps; returns the statistics, and what evaluation gives."""
    strategy = strategy_for(replicas)
    with strategy.scope():
        inputs = tf_keras.Input((2, 2, 3))
        layer = ghost_batch_norm.GhostBatchNormalization(4, momentum=0.75)
        model = tf_keras.Model(inputs, layer(inputs))
    if micro_batches:
        # Outside of the scope, which it has to know by itself.
        ghost_batch_norm.defer_updates(model)
    calls = max(micro_batches, 1)
    data = tf.data.Dataset.from_tensor_slices(images())
    data = data.batch(BATCH // calls, drop_remainder=True)
    iterator = iter(strategy.experimental_distribute_dataset(data))

    @tf.function
    def step() -> None:
        for _ in tf.range(calls):
            strategy.run(model, (next(iterator),), {"training": True})
        if micro_batches:
            strategy.run(ghost_batch_norm.update_moving_statistics, (model,))

    for _ in range(STEPS):
        step()
    image = tf.constant(images()[:1])
    outputs = strategy.run(model, (image,))
    totals = strategy.experimental_local_results(layer.totals)
    return {
        **({"totals": np.stack(totals)} if micro_batches else {}),
        "moving_mean": layer.moving_mean.numpy(),
        "moving_variance": layer.moving_variance.numpy(),
        "outputs": np.stack(strategy.experimental_local_results(outputs)),
        "saved": saved(strategy, model)(image).numpy(),
    }


def saved(
    strategy: tf.distribute.Strategy, model: tf_keras.Model
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the model as it comes back from a SavedModel."""
    ghost_batch_norm.defer_updates(model, False)
    with tempfile.TemporaryDirectory() as folder:
        with strategy.scope():
            tf.saved_model.save(model, folder)
        return tf.saved_model.load(folder)


if __name__ == "__main__":
    main(sys.argv[1])
