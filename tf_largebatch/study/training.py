"""One compiled training program for many runs of one kind of optimizer.

Whatever differs between the runs of a kind is a variable or an input of the
program: initial weights, order of the data, the rate of every step, the
optimizer's hyperparameters, label smoothing. So a run costs no new trace.
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_largebatch import keras as optimizers
from tf_largebatch import workloads
from tf_largebatch.study import settings
from tf_largebatch.study.protocol import Run, optimizer_options

# Numbers of a row that do not go to the optimizer.
NOT_THE_OPTIMIZERS = {*settings.DEFAULTS, "learning_rate"}


class Program:
    """Trains one row's model, or that of any row of the same optimizer kind.

    Args:
        workload: what is learnt; see :mod:`tf_largebatch.workloads`.
        row: of the protocol.
        names: of the optimizer's hyperparameters that vary between runs.
    """

    def __init__(
        self,
        workload: "workloads.Workload",
        row: Mapping[str, Any],
        names: frozenset[str],
    ):
        self.workload = workload
        self.model = workload.build_model(gamma_0=1.0, seed=0)
        self.learning_rate = keras.Variable(0.0, name="learning_rate")
        self.label_smoothing = keras.Variable(0.0, name="label_smoothing")
        self.hyperparameters = {
            name: keras.Variable(0.0, name=name) for name in sorted(names)
        }
        self.optimizer = getattr(optimizers, row["optimizer"]["class"])(
            learning_rate=self.learning_rate,
            **self.hyperparameters,
            **optimizer_options(row),
        )
        self.optimizer.build(self.model.trainable_variables)
        self.train = tf.function(self._train, autograph=False)
        self.measure = tf.function(self._measure, autograph=False)

    def run(
        self, run: Run, row_settings: Mapping[str, Any], steps: int
    ) -> dict:
        """Trains once and returns the run's line for the ledger.

        Args:
            run: which run.
            row_settings: of the row; a number that the run has wins.
            steps: how many steps to train.
        """
        started = time.perf_counter()
        numbers = {**row_settings, **run.hyperparameters}
        self.reset(run, numbers)
        rates = settings.rates(numbers, numbers["learning_rate"], steps)
        order = self.workload.order(run.seed, steps)
        curve: list[dict[str, Any]] = []
        for chunk in np.array_split(
            np.arange(steps), self.workload.evaluations
        ):
            loss = self.train(order[chunk], rates[chunk])
            curve.append(self.point(int(chunk[-1]) + 1, float(loss)))
            if curve[-1]["loss"] is None:
                break
        return {
            "row": run.row,
            "kind": run.kind,
            "index": run.index,
            "seed": run.seed,
            "hyperparameters": dict(run.hyperparameters),
            **self.result(curve, steps),
            "seconds": round(time.perf_counter() - started, 3),
            "curve": curve,
        }

    def reset(self, run: Run, numbers: Mapping[str, float]) -> None:
        """Puts the program into the state in which the run starts."""
        weights = self.workload.initial_weights(numbers["gamma_0"], run.seed)
        self.model.set_weights(weights)
        for variable in self.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        self.label_smoothing.assign(numbers["label_smoothing"])
        for name, variable in self.hyperparameters.items():
            variable.assign(numbers[name])

    def _train(self, order: tf.Tensor, rates: tf.Tensor) -> tf.Tensor:
        """Takes a step for each row of ``order``; returns the mean loss."""
        images, labels = map(tf.constant, self.workload.splits["train"])

        def step(number: tf.Tensor, total: tf.Tensor) -> tuple:
            batch = tf.ensure_shape(order[number], [self.workload.batch])
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

    def _measure(self, images: tf.Tensor, labels: tf.Tensor) -> tuple:
        """Returns the metric and the loss without label smoothing."""
        logits = self.model(images, training=False)
        return (
            self.workload.metric(labels, logits),
            self.workload.loss(labels, logits, tf.constant(0.0)),
        )

    def evaluate(self, split: str) -> tuple[float, float]:
        """Returns metric and loss of a split."""
        metric, loss = self.measure(*self.workload.tensors(split))
        return float(metric), float(loss)

    def point(self, step: int, loss: float) -> dict[str, Any]:
        """Returns one point of the learning curve."""
        validation, validation_loss = self.evaluate("validation")
        test, _ = self.evaluate("test")
        return {
            "step": step,
            "loss": finite_or_none(loss),
            "validation": validation,
            "validation_loss": finite_or_none(validation_loss),
            "test": test,
        }

    def result(self, curve: list[dict[str, Any]], steps: int) -> dict:
        """Returns a run's figures, from its curve and its final state."""
        last, target = curve[-1], self.workload.target
        reached = [point["step"] for point in curve if point["test"] >= target]
        return {
            "validation": last["validation"],
            "validation_loss": last["validation_loss"],
            "test": last["test"],
            "train": self.evaluate("train")[0],
            "steps": last["step"],
            "diverged": last["loss"] is None or last["step"] < steps,
            "steps_to_target": min(reached, default=None),
        }


def finite_or_none(value: float) -> float | None:
    """Returns a number that JSON has: None for NaN and infinity."""
    return value if math.isfinite(value) else None
