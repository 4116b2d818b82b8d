"""Trains and evaluates on 1, 2 and 4 devices; saves what came of it.

    PICTURES=FOLDER OPTIMIZER=lars python devices.py OUTPUT.npz

A script, because logical devices must be made before TensorFlow starts.
"""

import os
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from official.core import task_factory
from strategies import make_devices, strategy_for

from tf_largebatch.garden import recipes
from tf_largebatch.garden.trainer import Trainer
from tf_largebatch.tf_keras import LARS, Nesterov, PiecewisePolynomial

CONFTEST = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
SIZE, CLASSES = CONFTEST["SIZE"], CONFTEST["CLASSES"]
STEPS = 5
BATCH = 256
SEEDS = 3
# Replicas, and micro-batches of each, by optimizer.
WAYS = {
    "lars": [(1, 1), (1, 4), (2, 1)],
    "nesterov": [(1, 1), (2, 2), (4, 1)],
}
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "nesterov": lambda: Nesterov(schedule(0.1), 0.9, weight_decay=1e-3),
    "lars": lambda: LARS(schedule(4.0)),
}
# Replicas, global batch, and the pictures.
EVALUATIONS = [(1, 64, "validation"), (2, 4, "few"), (4, 10, "validation")]


def main(output: str) -> None:
    # Saves a third of the time that it takes to trace all this.
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )
    make_devices(4)
    found = [*trainings(os.environ["OPTIMIZER"]), *evaluations()]
    np.savez(output, **dict(found))


def trainings(optimizer: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields what comes of training with an optimizer, in its ways."""
    for replicas, micro_batches in WAYS[optimizer]:
        for key, value in train(replicas, micro_batches, optimizer):
            yield f"{replicas}x{micro_batches} {key}", value


def evaluations() -> Iterator[tuple[str, np.ndarray]]:
    """Yields what comes of all evaluations."""
    for replicas, batch, split in EVALUATIONS:
        for key, value in evaluate(replicas, batch, split):
            yield f"{split} {replicas} {key}", value


def schedule(peak: float) -> PiecewisePolynomial:
    return PiecewisePolynomial(peak, 2 * STEPS, 2, initial=0.2 * peak)


def settings(**task: Any) -> Any:
    """Returns the settings of the small network."""
    config = recipes.experiment("largebatch/resnet50_imagenet")
    config.override(CONFTEST["small_settings"](os.environ["PICTURES"]))
    config.override({"task": task})
    return config


def train(
    replicas: int, micro_batches: int, optimizer: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields where each variable ends, how far it moved, and the figures."""
    config = settings(
        train_data={"global_batch_size": BATCH},
        model={"backbone": {"virtual_batch_size": 32}},
    )
    config.trainer.micro_batch_size = BATCH // replicas // micro_batches
    strategy = strategy_for(replicas)
    with strategy.scope():
        task = task_factory.get_task(config.task)
        model = task.build_model()
        starts = model.get_weights()
        trainer = Trainer(
            config, task, model, OPTIMIZERS[optimizer](), evaluate=False
        )
    for seed in range(SEEDS):
        restart(trainer, starts, seed)
        logs = trainer.train(tf.constant(STEPS))
        for figure in ("training_loss", "accuracy", "learning_rate"):
            yield f"{seed} {figure}", np.array(logs[figure])
        for weight, start in zip(model.weights, starts):
            end = weight.numpy()
            yield f"{seed} end {weight.name}", end
            yield f"{seed} moved {weight.name}", end - start


def restart(trainer: Trainer, starts: list[np.ndarray], seed: int) -> None:
    """Puts everything where it began, with new data."""
    trainer.model.set_weights(starts)
    for variable in trainer.optimizer.variables:
        variable.assign(tf.zeros_like(variable))
    trainer.train_dataset = batches(
        trainer.strategy, trainer.config.trainer.micro_batch_size, seed
    )


def batches(
    strategy: tf.distribute.Strategy, micro_batch: int, seed: int
) -> tf.distribute.DistributedDataset:
    """Returns the data: noise around a picture for each label."""
    random = np.random.default_rng(seed)
    labels = random.integers(CLASSES, size=STEPS * BATCH, dtype="int32")
    shape = (CLASSES, SIZE // 4, SIZE // 4, 3)
    centres = random.normal(size=shape).repeat(4, 1).repeat(4, 2)
    images = centres[labels] + random.normal(size=(len(labels), SIZE, SIZE, 3))
    dataset = tf.data.Dataset.from_tensor_slices(
        (images.astype("float32"), labels)
    ).batch(micro_batch, drop_remainder=True)
    return strategy.distribute_datasets_from_function(lambda _: dataset)


def evaluate(
    replicas: int, batch: int, split: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the figures of an evaluation, and each example's logits."""
    data = {
        "input_path": f"{os.environ['PICTURES']}/{split}-*",
        "global_batch_size": batch,
        "num_examples": CONFTEST["PICTURES"][split],
    }
    config = settings(validation_data=data)
    with strategy_for(replicas).scope():
        task = task_factory.get_task(config.task)
        trainer = Trainer(
            config, task, task.build_model(), Nesterov(0.1), train=False
        )
        for name, value in trainer.evaluate(tf.constant(-1)).items():
            yield name, value.numpy()
    one = config.task.validation_data.replace(global_batch_size=1)
    examples = task.build_inputs(one)
    images, labels, _ = map(np.concatenate, zip(*examples.as_numpy_iterator()))
    yield "logits", trainer.model(images).numpy()
    yield "labels", labels


if __name__ == "__main__":
    main(sys.argv[1])
