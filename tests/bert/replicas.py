"""Pretrains and evaluates on 1, 2 and 4 devices; saves what came of it.

    EXAMPLES=FOLDER PARTS="lamb groups" python replicas.py OUTPUT.npz

The parts are of `PARTS`, or `evaluations`.

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

from tf_largebatch.garden.trainer import Trainer
from tf_largebatch.tf_keras import LAMB, Adam, BertPolynomial

RANDOM = runpy.run_path(str(Path(__file__).with_name("random_examples.py")))
STEPS = 5
GROUP = 4
# Replicas, and micro-batches of each.
WAYS = [(1, 1), (2, 4)]
MORE_WAYS = [*WAYS, (1, 4), (2, 2), (4, 1)]
SAME_MICRO_BATCHES = [(1, 4), (2, 2)]
DROPOUT = {"dropout_rate": 0.3, "attention_dropout_rate": 0.2}
# An optimizer, the ways to train with it, and settings of the task.
PARTS: dict[str, tuple[Callable[..., Any], list[tuple[int, int]], Any]] = {
    "lamb": (LAMB, WAYS, {}),
    "adam": (Adam, MORE_WAYS, {}),
    "groups": (
        Adam,
        SAME_MICRO_BATCHES,
        {
            "group_size": GROUP,
            "group_clip_norm": 0.5,
            "model": {"encoder": {"bert": DROPOUT}},
        },
    ),
}
# Replicas, and the global batch.
EVALUATIONS = [(1, 64), (4, 7)]
NO_DROPOUT = {"dropout_rate": 0.0, "attention_dropout_rate": 0.0}


def main(output: str) -> None:
    # Saves a third of the time that it takes to trace all this.
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )
    make_devices(4)
    found: dict[str, np.ndarray] = {}
    for part in os.environ["PARTS"].split():
        of_part = evaluations() if part == "evaluations" else trainings(part)
        found |= {f"{part} {name}": value for name, value in of_part}
    np.savez(output, **found)


def trainings(part: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields what comes of a part's training, in every way."""
    optimizer, ways, task = PARTS[part]
    for replicas, micro_batches in ways:
        for key, value in train(replicas, micro_batches, optimizer, **task):
            yield f"{replicas}x{micro_batches} {key}", value


def evaluations() -> Iterator[tuple[str, np.ndarray]]:
    """Yields what comes of all evaluations."""
    for replicas, batch in EVALUATIONS:
        for key, value in evaluate(replicas, batch):
            yield f"{replicas} {key}", value


def settings(**task: Any) -> Any:
    """Returns the settings of the small network, without dropout."""
    folder = Path(os.environ["EXAMPLES"])
    model = {"encoder": {"bert": NO_DROPOUT}}
    config = RANDOM["settings"](folder, task={"model": model})
    config.override({"task": task})
    return config


def train(
    replicas: int,
    micro_batches: int,
    make_optimizer: Callable[..., Any],
    **task: Any,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields where each variable ends, how far it moved, and the figures."""
    config = settings(**task)
    batch = config.task.train_data.global_batch_size
    config.trainer.micro_batch_size = batch // replicas // micro_batches
    schedule = BertPolynomial(0.02, 2 * STEPS, 1)
    with strategy_for(replicas).scope():
        task = task_factory.get_task(config.task)
        model = task.build_model()
        starts = model.get_weights()
        optimizer = make_optimizer(
            schedule, weight_decay=0.01, global_clipnorm=1.0
        )
        trainer = Trainer(config, task, model, optimizer, evaluate=False)
        logs = trainer.train(tf.constant(STEPS))
    for name in ("training_loss", "masked_lm_loss", "masked_lm_accuracy"):
        yield name, np.array(logs[name])
    for weight, start in zip(model.weights, starts):
        yield f"end {weight.name}", weight.numpy()
        yield f"moved {weight.name}", weight.numpy() - start


def evaluate(replicas: int, batch: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the figures of an evaluation."""
    config = settings(validation_data={"global_batch_size": batch})
    with strategy_for(replicas).scope():
        task = task_factory.get_task(config.task)
        trainer = Trainer(
            config, task, task.build_model(), Adam(0.1), train=False
        )
        for name, value in trainer.evaluate(tf.constant(-1)).items():
            yield name, value.numpy()


if __name__ == "__main__":
    main(sys.argv[1])
