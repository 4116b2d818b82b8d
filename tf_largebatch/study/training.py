"""One compiled training program for many runs of one kind of optimizer.

Whatever differs between the runs of a kind is a variable or an input of the
program: initial weights, order of the data, the rate of every step, the
optimizer's hyperparameters, the settings of the loss. So a run costs no new
trace.
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tf_largebatch.keras
import tf_largebatch.tf_keras
from tf_largebatch import stopping, workloads
from tf_largebatch.errors import UserError
from tf_largebatch.study import (
    optimizer_classes,
    protocol,
    settings,
    table_rows,
)
from tf_largebatch.study.protocol import Run
from tf_largebatch.study.results import finite, number


@dataclasses.dataclass(frozen=True)
class Family:
    """What differs between the two Kerases.

    Attributes:
        optimizers: the module that has them.
        variable: creates a scalar by its name, 0 at first.
        value: returns a variable as TensorFlow has it.
    """

    optimizers: ModuleType
    variable: Callable[[str], Any]
    value: Callable[[Any], tf.Tensor]


FAMILIES = {
    "keras": Family(
        tf_largebatch.keras,
        lambda name: keras.Variable(0.0, name=name),
        lambda variable: variable.value,
    ),
    "tf_keras": Family(
        tf_largebatch.tf_keras,
        lambda name: tf.Variable(0.0, name=name),
        lambda variable: variable,
    ),
}


class Trainer:
    """Does the runs of a study, with one model and a program a kind.

    Args:
        study: its protocol.
        workload: what is learnt; None means the workload that the study
            names.

    Raises:
        UserError: there is no such workload here.
    """

    def __init__(
        self,
        study: Mapping[str, Any],
        workload: workloads.Workload | None = None,
    ):
        self.steps: int = study["steps"]
        if workload is None and study["workload"].get("python"):
            raise UserError(
                "the study is of a model that Python alone knows; go on with "
                "the same call of tf_largebatch.study.compare"
            )
        self.workload = workload or workloads.load(study["workload"])
        self.model = self.workload.build_model(
            0, self.workload.config["settings"]
        )
        self.measure = tf.function(
            lambda examples: self.workload.measure(self.model, examples),
            autograph=False,
            jit_compile=self.workload.jit_compile,
        )
        self.programs: dict[str, Program] = {}
        # Of the program that one run alone can use.
        self.passing = ""

    def run(
        self,
        row: Mapping[str, Any],
        run: Run,
        is_hopeless: Callable[[int, float], bool] = lambda step, value: False,
    ) -> dict[str, Any]:
        """Trains once and returns the run's line for the ledger.

        Args:
            row: of the protocol.
            run: what is to be done.
            is_hopeless: asked with every step that is measured on the way and
                the validation metric there, whether to stop the run.
        """
        started = time.perf_counter()
        numbers = {**row["settings"], **run.hyperparameters}
        self.workload.start(self.model, run.seed, numbers)
        curve = self.learn(self.program(row, run), run, numbers, is_hopeless)
        return {
            **dataclasses.asdict(run),
            **self.result(curve),
            "seconds": round(time.perf_counter() - started, 3),
            "curve": curve,
        }

    def program(self, row: Mapping[str, Any], run: Run) -> "Program":
        """Returns the program that can do a run of a row."""
        name = row["optimizer"]["class"]
        varies = optimizer_classes.takes_variables(name)
        options, names = arguments(row, run, varies)
        kind = json.dumps([name, options, names], sort_keys=True)
        if kind not in self.programs:
            if not varies:
                self.programs.pop(self.passing, None)
                self.passing = kind
            self.programs[kind] = Program(
                self.workload, self.model, name, options, names
            )
        return self.programs[kind]

    def learn(
        self,
        program: "Program",
        run: Run,
        numbers: Mapping[str, Any],
        is_hopeless: Callable[[int, float], bool],
    ) -> list[dict[str, Any]]:
        """Trains the model and returns its learning curve."""
        program.reset(numbers)
        rates = settings.rates(numbers, numbers["learning_rate"], self.steps)
        order = self.workload.order(run.seed, self.steps)
        parts = np.array_split(np.arange(self.steps), self.workload.evaluations)
        curve: list[dict[str, Any]] = []
        for part in parts:
            stopping.check()
            loss = program.train(order[part], rates[part])
            point = self.point(int(part[-1]) + 1, float(loss))
            curve.append(point)
            if point["loss"] is None or point["step"] == self.steps:
                break
            if is_hopeless(point["step"], number(point["validation"])):
                break
        return curve

    def point(self, step: int, loss: float) -> dict[str, Any]:
        """Returns one point of the learning curve."""
        validation, validation_loss = self.evaluate("validation")
        return {
            "step": step,
            "loss": finite(loss),
            "validation": finite(validation),
            "validation_loss": finite(validation_loss),
            "test": finite(self.evaluate("test")[0]),
        }

    def result(self, curve: list[dict[str, Any]]) -> dict[str, Any]:
        """Returns a run's figures, from its curve and its final state."""
        last = curve[-1]
        reached = [
            point["step"]
            for point in curve
            if protocol.hits(self.workload.config, number(point["test"]))
        ]
        return {
            "validation": last["validation"],
            "validation_loss": last["validation_loss"],
            "test": last["test"],
            "train": finite(self.evaluate("train")[0]),
            "steps": last["step"],
            "diverged": last["loss"] is None,
            "steps_to_target": min(reached, default=None),
        }

    def evaluate(self, split: str) -> tuple[float, float]:
        """Returns metric and loss of a split.

        Without a loss there is no metric: outputs that are no numbers are
        all of one class, and would be right as often as that is.
        """
        metric, loss = map(float, self.measure(self.workload.measured[split]))
        return math.nan if math.isnan(loss) else metric, loss


def arguments(
    row: Mapping[str, Any], run: Run, varies: bool
) -> tuple[dict[str, Any], list[str]]:
    """Returns the optimizer's arguments that are a program's own.

    Args:
        row: of the protocol.
        run: what is to be done.
        varies: whether numbers can be variables, which flags and words cannot.

    Returns:
        The arguments, and the names of those that are variables.
    """
    others = {*row["settings"], "learning_rate"}
    chosen = {
        name: value
        for name, value in run.hyperparameters.items()
        if name not in others
    }
    names = [
        name
        for name, value in chosen.items()
        if varies and table_rows.is_number(value)
    ]
    fixed = {name: chosen[name] for name in {*chosen} - {*names}}
    return {**table_rows.optimizer_options(row), **fixed}, sorted(names)


class Program:
    """Trains a model with one kind of optimizer, traced once.

    Args:
        workload: what is learnt.
        model: what learns.
        name: class of the optimizer.
        options: its arguments that are the same in all of its runs.
        names: its arguments that vary between runs, which are numbers.
    """

    def __init__(
        self,
        workload: workloads.Workload,
        model: Any,
        name: str,
        options: Mapping[str, Any],
        names: Sequence[str],
    ):
        self.workload, self.model = workload, model
        self.family = FAMILIES[workload.family]
        self.loss_settings = self.variables(workload.loss_settings)
        self.hyperparameters = self.variables(names)
        if optimizer_classes.takes_variables(name):
            self.learning_rate = self.family.variable("learning_rate")
            self.optimizer = self.make_optimizer(name, options)
        else:
            self.optimizer = self.make_plain_optimizer(name, options)
            self.learning_rate = self.optimizer.learning_rate
        self.optimizer.build(workload.trained_variables(model))
        self.start = [
            self.family.value(variable).numpy()
            for variable in self.optimizer.variables
        ]
        self.step = tf.function(
            self._step, autograph=False, jit_compile=workload.jit_compile
        )
        self.train = tf.function(
            self._train,
            autograph=False,
            input_signature=[
                tf.TensorSpec([None, workload.batch], tf.int32),
                tf.TensorSpec([None], tf.float32),
            ],
        )

    def make_optimizer(self, name: str, options: Mapping[str, Any]) -> Any:
        """Returns the optimizer, whose numbers are variables.

        Raises:
            UserError: another package's class does not keep them as such.
        """
        made = optimizer_classes.class_in(self.family.optimizers, name)
        try:
            optimizer = made(
                self.learning_rate, **self.hyperparameters, **options
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"the optimizer {name}: {error}") from error
        kept = optimizer.hyperparameters()
        for argument, variable in self.hyperparameters.items():
            if kept.get(argument) is not variable:
                raise UserError(
                    f"the optimizer {name} does not keep {argument} as it is "
                    "given, a variable that a study changes from run to run; "
                    "hand it to the base class among the hyperparameters"
                )
        return optimizer

    def make_plain_optimizer(
        self, name: str, options: Mapping[str, Any]
    ) -> Any:
        """Returns an optimizer that is Keras's alone, with plain numbers.

        Raises:
            UserError: a value that it cannot have.
        """
        made = optimizer_classes.class_in(self.family.optimizers, name)
        try:
            return made(learning_rate=1.0, **options)
        except (TypeError, ValueError) as error:
            raise UserError(f"the optimizer {name}: {error}") from error

    def variables(self, names: Sequence[str]) -> dict[str, Any]:
        """Creates a variable for each name."""
        return {name: self.family.variable(name) for name in names}

    def reset(self, numbers: Mapping[str, float]) -> None:
        """Puts optimizer and hyperparameters where a run starts."""
        for variable, value in zip(self.optimizer.variables, self.start):
            variable.assign(value)
        varied = {**self.loss_settings, **self.hyperparameters}
        for name, variable in varied.items():
            variable.assign(numbers[name])

    def _train(self, order: tf.Tensor, rates: tf.Tensor) -> tf.Tensor:
        """Takes a step for each row of ``order``; returns the mean loss."""
        examples = self.workload.splits["train"]

        def step(number: tf.Tensor, total: tf.Tensor) -> tuple:
            batch = tf.nest.map_structure(
                lambda x: tf.gather(x, order[number]), examples
            )
            return number + 1, total + self.step(batch, rates[number])

        count = tf.shape(order)[0]
        _, total = tf.while_loop(
            lambda number, _: number < count, step, (0, 0.0)
        )
        return total / tf.cast(count, tf.float32)

    def _step(self, batch: workloads.Examples, rate: tf.Tensor) -> tf.Tensor:
        """Takes one training step; returns the batch's mean loss."""
        self.learning_rate.assign(rate)
        variables = self.workload.trained_variables(self.model)
        with tf.GradientTape() as tape:
            loss = self.workload.loss(self.model, batch, self.loss_settings)
        gradients = tape.gradient(loss, [*map(self.family.value, variables)])
        self.optimizer.apply_gradients(list(zip(gradients, variables)))
        return loss
