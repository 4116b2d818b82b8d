"""Learns and answers questions on 1 and 2 devices; saves what came of it.

    QUESTIONS=FOLDER python squad_replicas.py OUTPUT.npz

A script, because logical devices must be made before TensorFlow starts.
"""

import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from official.core import task_factory, train_utils
from strategies import make_devices, strategy_for

from tf_largebatch.garden.trainer import Trainer

WRITTEN = runpy.run_path(str(Path(__file__).with_name("written_questions.py")))
STEPS = 5
# Replicas, and micro-batches of each.
WAYS = [(1, 1), (2, 4)]
# Replicas and global batch.
EVALUATIONS = [(1, 64), (2, 7)]


def main(output: str) -> None:
    # Saves a third of the time that it takes to trace all this.
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )
    make_devices(2)
    arrays = {}
    for replicas, micro_batches in WAYS:
        for key, value in train(replicas, micro_batches):
            arrays[f"{replicas}x{micro_batches} {key}"] = value
    for replicas, batch in EVALUATIONS:
        data = {"global_batch_size": batch}
        trainer = make(replicas, evaluate=True, validation_data=data)
        for key, value in trainer.evaluate(tf.constant(-1)).items():
            arrays[f"{replicas} evaluated {key}"] = np.array(value)
    np.savez(output, **arrays)


def make(
    replicas: int, micro_batches: int = 1, evaluate: bool = False, **task: Any
) -> Trainer:
    """Returns a trainer of a network of one layer, without dropout."""
    config = WRITTEN["settings"](Path(os.environ["QUESTIONS"]), task=task)
    encoder = config.task.model.encoder.get()
    encoder.num_layers = 1
    encoder.dropout_rate = encoder.attention_dropout_rate = 0.0
    batch = config.task.train_data.global_batch_size
    config.trainer.micro_batch_size = batch // replicas // micro_batches
    with strategy_for(replicas).scope():
        task = task_factory.get_task(config.task)
        return Trainer(
            config,
            task,
            task.build_model(),
            train_utils.create_optimizer(task, config),
            train=not evaluate,
            evaluate=evaluate,
        )


def train(
    replicas: int, micro_batches: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields where each variable ends, how far it moved, and the figures."""
    trainer = make(replicas, micro_batches)
    weights = trainer.model.weights
    starts = [weight.numpy() for weight in weights]
    with trainer.strategy.scope():
        logs = trainer.train(tf.constant(STEPS))
    for figure in ("training_loss", "gradient_norm", "learning_rate"):
        yield figure, np.array(logs[figure])
    for weight, start in zip(weights, starts):
        end = weight.numpy()
        yield f"end {weight.name}", end
        yield f"moved {weight.name}", end - start


if __name__ == "__main__":
    main(sys.argv[1])
