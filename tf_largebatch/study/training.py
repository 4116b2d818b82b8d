"""One compiled training program for many runs of one kind of optimizer.

Whatever differs between the runs of a kind is a variable or an input of the
program: initial weights, order of the data, the rate of every step, the
optimizer's hyperparameters, label smoothing. So a run costs no new trace.
"""

import json
import math
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_largebatch import keras as optimizers
from tf_largebatch import workloads
from tf_largebatch.study import protocol, settings
from tf_largebatch.study.protocol import Run

# Numbers of a run that do not go to the optimizer.
NOT_THE_OPTIMIZERS = {*settings.DEFAULTS, "learning_rate"}


class Trainer:
    """Does the runs of a study, with one model and a program a kind.

    Args:
        study: its protocol.
    """

    def __init__(self, study: Mapping[str, Any]):
        self.steps: int = study["steps"]
        self.workload = workloads.Workload(study["workload"])
        self.model = self.workload.build_model(gamma_0=1.0, seed=0)
        self.measure = tf.function(self._measure, autograph=False)
        self.programs: dict[str, Program] = {}

    def run(self, row: Mapping[str, Any], run: Run) -> dict[str, Any]:
        """Trains once and returns the run's line for the ledger."""
        started = time.perf_counter()
        numbers = {**row["settings"], **run.hyperparameters}
        self.model.set_weights(
            self.workload.initial_weights(numbers["gamma_0"], run.seed)
        )
        curve = self.learn(self.program(row, run), run, numbers)
        return {
            "row": run.row,
            "kind": run.kind,
            "index": run.index,
            "seed": run.seed,
            "hyperparameters": dict(run.hyperparameters),
            **self.result(curve),
            "seconds": round(time.perf_counter() - started, 3),
            "curve": curve,
        }

    def program(self, row: Mapping[str, Any], run: Run) -> "Program":
        """Returns the program that can do a run of a row."""
        names = sorted(set(run.hyperparameters) - NOT_THE_OPTIMIZERS)
        options = protocol.optimizer_options(row)
        name = row["optimizer"]["class"]
        kind = json.dumps([name, options, names], sort_keys=True)
        if kind not in self.programs:
            self.programs[kind] = Program(
                self.workload, self.model, name, options, names
            )
        return self.programs[kind]

    def learn(
        self, program: "Program", run: Run, numbers: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Trains the model and returns its learning curve."""
        program.reset(numbers)
        rates = settings.rates(numbers, numbers["learning_rate"], self.steps)
        order = self.workload.order(run.seed, self.steps)
        parts = np.array_split(np.arange(self.steps), self.workload.evaluations)
        curve: list[dict[str, Any]] = []
        for part in parts:
            loss = program.train(order[part], rates[part])
            curve.append(self.point(int(part[-1]) + 1, float(loss)))
            if curve[-1]["loss"] is None:
                break
        return curve

    def point(self, step: int, loss: float) -> dict[str, Any]:
        """Returns one point of the learning curve."""
        validation, validation_loss = self.evaluate("validation")
        return {
            "step": step,
            "loss": finite_or_none(loss),
            "validation": validation,
            "validation_loss": finite_or_none(validation_loss),
            "test": self.evaluate("test")[0],
        }

    def result(self, curve: list[dict[str, Any]]) -> dict[str, Any]:
        """Returns a run's figures, from its curve and its final state."""
        last = curve[-1]
        reached = [
            point["step"]
            for point in curve
            if protocol.hits(self.workload.config, point["test"])
        ]
        return {
            "validation": last["validation"],
            "validation_loss": last["validation_loss"],
            "test": last["test"],
            "train": self.evaluate("train")[0],
            "steps": last["step"],
            "diverged": last["loss"] is None,
            "steps_to_target": min(reached, default=None),
        }

    def evaluate(self, split: str) -> tuple[float, float]:
        """Returns metric and loss of a split."""
        metric, loss = self.measure(*self.workload.splits[split])
        return float(metric), float(loss)

    def _measure(self, images: tf.Tensor, labels: tf.Tensor) -> tuple:
        """Returns the metric and the loss without label smoothing."""
        logits = self.model(images, training=False)
        return (
            self.workload.metric(labels, logits),
            self.workload.loss(labels, logits, 0.0),
        )


class Program:
    """Trains a model with one kind of optimizer, traced once.

    Args:
        workload: what is learnt.
        model: what learns.
        name: class of the optimizer.
        options: its arguments that are no numbers.
        names: its arguments that are numbers, which vary between runs.
    """

    def __init__(
        self,
        workload: workloads.Workload,
        model: keras.Model,
        name: str,
        options: Mapping[str, Any],
        names: list[str],
    ):
        self.workload, self.model = workload, model
        self.learning_rate = keras.Variable(0.0, name="learning_rate")
        self.label_smoothing = keras.Variable(0.0, name="label_smoothing")
        self.hyperparameters = {
            name: keras.Variable(0.0, name=name) for name in names
        }
        self.optimizer = getattr(optimizers, name)(
            self.learning_rate, **self.hyperparameters, **options
        )
        self.optimizer.build(model.trainable_variables)
        self.train = tf.function(
            self._train,
            autograph=False,
            input_signature=[
                tf.TensorSpec([None, workload.batch], tf.int32),
                tf.TensorSpec([None], tf.float32),
            ],
        )

    def reset(self, numbers: Mapping[str, float]) -> None:
        """Puts optimizer and hyperparameters where a run starts."""
        for variable in self.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        self.label_smoothing.assign(numbers["label_smoothing"])
        for name, variable in self.hyperparameters.items():
            variable.assign(numbers[name])

    def _train(self, order: tf.Tensor, rates: tf.Tensor) -> tf.Tensor:
        """Takes a step for each row of ``order``; returns the mean loss."""
        images, labels = self.workload.splits["train"]

        def step(number: tf.Tensor, total: tf.Tensor) -> tuple:
            batch = order[number]
            loss = self.step(
                tf.gather(images, batch),
                tf.gather(labels, batch),
                rates[number],
            )
            return number + 1, total + loss

        count = tf.shape(order)[0]
        _, total = tf.while_loop(
            lambda number, _: number < count, step, (0, 0.0)
        )
        return total / tf.cast(count, tf.float32)

    def step(
        self, images: tf.Tensor, labels: tf.Tensor, rate: tf.Tensor
    ) -> tf.Tensor:
        """Takes one training step; returns the batch's mean loss."""
        self.learning_rate.assign(rate)
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            loss = self.workload.loss(labels, logits, self.label_smoothing)
        gradients = tape.gradient(loss, [v.value for v in variables])
        self.optimizer.apply(gradients, variables)
        return loss


def finite_or_none(value: float) -> float | None:
    """Returns a number that JSON has: None for NaN and infinity."""
    return value if math.isfinite(value) else None
