"""Pretrains and evaluates on 1, 2 and 4 devices; saves what came of it.

    EXAMPLES=FOLDER python replicas.py OUTPUT.npz

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
WAYS = [(1, 1), (1, 4), (2, 2), (4, 1)]
OTHER_WAYS = [(1, 4), (2, 2)]
OPTIMIZERS: dict[str, Callable[..., Any]] = {"lamb": LAMB, "adam": Adam}
# Replicas, and the global batch.
EVALUATIONS = [(1, 64), (2, 4), (4, 7)]
NO_DROPOUT = {"dropout_rate": 0.0, "attention_dropout_rate": 0.0}


def main(output: str) -> None:
    # Saves a third of the time that it takes to trace all this.
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )
    make_devices(4)
    arrays = {}
    for replicas, micro_batches in WAYS:
        way = f"{replicas}x{micro_batches}"
        arrays |= train(way, replicas, micro_batches, OPTIMIZERS)
    for replicas, micro_batches in OTHER_WAYS:
        way = f"groups {replicas}x{micro_batches}"
        groups = {"group_size": GROUP, "group_clip_norm": 0.5}
        adam = {"adam": Adam}
        arrays |= train(way, replicas, micro_batches, adam, **groups)
        way = f"dropout {replicas}x{micro_batches}"
        dropout = {"dropout_rate": 0.3, "attention_dropout_rate": 0.2}
        model = {"encoder": {"bert": dropout}}
        lamb = {"lamb": LAMB}
        arrays |= train(way, replicas, micro_batches, lamb, model=model)
    for replicas, batch in EVALUATIONS:
        for key, value in evaluate(replicas, batch):
            arrays[f"{replicas} evaluated {key}"] = value
    np.savez(output, **arrays)


def settings(**task: Any) -> Any:
    """Returns the settings of the small network, without dropout."""
    folder = Path(os.environ["EXAMPLES"])
    model = {"encoder": {"bert": NO_DROPOUT}}
    config = RANDOM["settings"](folder, task={"model": model})
    config.override({"task": task})
    return config


def train(
    way: str,
    replicas: int,
    micro_batches: int,
    optimizers: dict[str, Callable[..., Any]],
    **task: Any,
) -> dict[str, np.ndarray]:
    """Returns where each variable ends, how far it moved, and the figures."""
    config = settings(**task)
    batch = config.task.train_data.global_batch_size
    config.trainer.micro_batch_size = batch // replicas // micro_batches
    strategy = strategy_for(replicas)
    found = {}
    with strategy.scope():
        task = task_factory.get_task(config.task)
        model = task.build_model()
    starts = model.get_weights()
    for name, optimizer in optimizers.items():
        model.set_weights(starts)
        for key, value in run(strategy, config, task, model, optimizer):
            found[f"{way} {name} {key}"] = value
    return found


def run(
    strategy: tf.distribute.Strategy,
    config: Any,
    task: Any,
    model: Any,
    make_optimizer: Callable[..., Any],
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields what comes of a run with an optimizer."""
    starts = model.get_weights()
    schedule = BertPolynomial(0.02, 2 * STEPS, 1)
    with strategy.scope():
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
