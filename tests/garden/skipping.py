"""Trains on data of which one step is no number; saves what came of it.

    PICTURES=FOLDER python skipping.py OUTPUT.npz

A script, because logical devices must be made before TensorFlow starts.
"""

import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from official.core import task_factory
from strategies import make_devices, strategy_for

from tf_largebatch.garden import recipes
from tf_largebatch.garden.trainer import Trainer
from tf_largebatch.tf_keras import LARS, PiecewisePolynomial

CONFTEST = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
SIZE, CLASSES = CONFTEST["SIZE"], CONFTEST["CLASSES"]
STEPS, BROKEN, BATCH = 4, 2, 32
# Replicas, and micro-batches of each.
WAYS = [(1, 1), (2, 2)]


def main(output: str) -> None:
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )
    make_devices(2)
    arrays = {}
    for replicas, micro_batches in WAYS:
        for key, value in train(replicas, micro_batches):
            arrays[f"{replicas}x{micro_batches} {key}"] = value
    np.savez(output, **arrays)


def train(
    replicas: int, micro_batches: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields where all variables end, without the step and with it broken."""
    config = recipes.experiment("largebatch/resnet50_imagenet")
    config.override(CONFTEST["small_settings"](os.environ["PICTURES"]))
    config.task.train_data.global_batch_size = BATCH
    micro_batch = BATCH // replicas // micro_batches
    config.trainer.micro_batch_size = micro_batch
    config.trainer.max_skipped_updates = 1
    strategy = strategy_for(replicas)
    with strategy.scope():
        task = task_factory.get_task(config.task)
        model = task.build_model()
        schedule = PiecewisePolynomial(4.0, 2 * STEPS, 2, initial=0.8)
        trainer = Trainer(config, task, model, LARS(schedule), evaluate=False)
    starts = model.get_weights()
    for name in ("left out", "broken"):
        model.set_weights(starts)
        for variable in trainer.optimizer.variables:
            variable.assign(tf.zeros_like(variable))
        images, labels = data(name)
        dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(
            micro_batch, drop_remainder=True
        )
        trainer.train_dataset = strategy.distribute_datasets_from_function(
            lambda _, dataset=dataset: dataset
        )
        logs = trainer.train(tf.constant(len(labels) // BATCH))
        yield f"{name} skipped", np.array(logs["skipped_updates"])
        yield f"{name} updates", trainer.optimizer.iterations.numpy()
        for weight in [*model.weights, *trainer.optimizer.variables]:
            yield f"{name} end {weight.name}", weight.numpy()


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns pictures and labels; in one picture one pixel is no number."""
    random = np.random.default_rng(0)
    labels = random.integers(CLASSES, size=STEPS * BATCH, dtype="int32")
    images = random.normal(size=(len(labels), SIZE, SIZE, 3))
    broken = slice(BROKEN * BATCH, (BROKEN + 1) * BATCH)
    if name == "broken":
        images[broken][-1, 0, 0, 0] = np.nan
    else:
        images, labels = np.delete(images, broken, 0), np.delete(labels, broken)
    return images.astype("float32"), labels


if __name__ == "__main__":
    main(sys.argv[1])
