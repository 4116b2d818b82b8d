"""The Model Garden's trainer, with gradients that accumulate.

A step is the same on any number of devices: the global batch is cut into
micro-batches, each replica adds up the gradients of its own, and the sums
meet once a step.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orbit
import tensorflow as tf
from official.core import base_trainer

from tf_largebatch import stopping
from tf_largebatch.errors import DivergenceError, UserError
from tf_largebatch.garden import diagnostics

Inputs = Any
NONE = -1  # No step, no variable.
Logs = dict[str, Any]
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "min": np.min,
    "median": np.median,
    "max": np.max,
}


class Trainer(base_trainer.Trainer):
    """Trains a task with accumulation, and reports on the optimizer.

    The task is a :class:`tf_largebatch.experiments.Task`. The other arguments
    are those of the Garden's trainer; it is created in the scope of the
    strategy.

    Raises:
        UserError: the global batch cannot be cut as the config says.
        RunError: an evaluation did not count every example once.
    """

    def __init__(
        self,
        config: Any,
        task: Any,
        model: tf.Module,
        optimizer: Any,
        train: bool = True,
        evaluate: bool = True,
        train_dataset: Any = None,
        validation_dataset: Any = None,
        **kwargs: Any,
    ):
        if hasattr(optimizer, "build"):
            # Now, so that a checkpoint is restored to its last variable.
            optimizer.build(task.trained_variables(model))
        # Opened here, because the base class adds lines to error messages.
        if train:
            self._prepare(config, task, model, optimizer)
            train_dataset = train_dataset or OpenedLate(self._train_data)
        if evaluate:
            validation_dataset = validation_dataset or distribute(
                task.build_inputs, config.task.validation_data
            )
        super().__init__(
            config,
            task,
            model,
            optimizer,
            train,
            evaluate,
            train_dataset,
            validation_dataset,
            **kwargs,
        )
        if train and self.may_skip:
            self.checkpoint.skipped_updates = self._skipped

    def _prepare(
        self, config: Any, task: Any, model: tf.Module, optimizer: Any
    ) -> None:
        """Creates what a step needs beside the model and the optimizer."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self.micro_batch_size, self.micro_batches = cut_step(
            config, task, replicas
        )
        self.may_skip = config.trainer.max_skipped_updates > 0
        task.check_optimizer(optimizer)
        self._sums = [
            tf.Variable(
                tf.zeros(variable.shape),
                trainable=False,
                name="gradient_sum",
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
            for variable in task.trained_variables(model)
            if self.micro_batches > 1 or self.may_skip
        ]
        self._finite = same_on_all_replicas(tf.fill([len(self._sums)], True))
        self._skipped = same_on_all_replicas(tf.constant(0, tf.int64))
        self._gradient_norm = same_on_all_replicas(tf.zeros([]))
        self._first_bad = same_on_all_replicas(
            tf.constant([NONE, NONE], tf.int64)
        )
        self._trust_ratios = {
            index: same_on_all_replicas(tf.zeros([]))
            for index in diagnostics.adapted(optimizer)
        }
        if self._trust_ratios:
            optimizer.record(self._trust_ratios)

    def _train_data(self) -> Any:
        """Returns the data from the example where the run stands."""
        data = self.config.task.train_data
        done = int(self.global_step.numpy()) * data.global_batch_size
        return distribute(
            self.task.build_inputs,
            data,
            micro_batch_size=self.micro_batch_size,
            first_example=done,
        )

    def create_train_loop_fn(self) -> Callable[..., Any]:
        """Returns what takes steps, and can be stopped between two."""
        if self._train_options.use_tf_while_loop:
            return super().create_train_loop_fn()
        step: Callable[..., Any] = self.train_step
        if self._train_options.use_tf_function:
            step = tf.function(step)

        def step_unless_stopped(iterator: Iterator[Inputs]) -> None:
            stopping.check()
            step(iterator)

        return orbit.utils.create_loop_fn(step_unless_stopped)

    def train(self, num_steps: tf.Tensor) -> Logs | None:
        """Takes steps; a signal does not tear one apart."""
        with stopping.deferred():
            return super().train(num_steps)

    def train_step(self, iterator: Iterator[Inputs]) -> None:
        """Takes a step, of as many micro-batches as a replica has."""
        options = self._runtime_options
        if self.micro_batches == 1 and not self.may_skip:
            inputs = next(iterator)
            self.strategy.run(self._step, (inputs,), options=options)
            return
        for _ in tf.range(self.micro_batches):
            inputs = next(iterator)
            self.strategy.run(self._accumulate, (inputs,), options=options)
        if not self.may_skip:
            self.strategy.run(self._apply_sums, options=options)
            return
        self.strategy.run(self._look, options=options)
        if tf.reduce_all(self._finite):
            self.strategy.run(self._apply_sums, options=options)
        else:
            self.strategy.run(self._skip, options=options)

    def _step(self, inputs: Inputs) -> None:
        """On a replica: takes a step whole."""
        self._apply(self._gradients(inputs))

    def _accumulate(self, inputs: Inputs) -> None:
        """On a replica: adds the gradients of a micro-batch to the sums."""
        for total, gradient in zip(self._sums, self._gradients(inputs)):
            total.assign_add(gradient)

    def _apply_sums(self) -> None:
        """On a replica: takes a step with the sums, and empties them."""
        self._apply([total.read_value() for total in self._sums])
        self._empty_sums()

    def _empty_sums(self) -> None:
        """On a replica: lets the sums begin anew."""
        for total in self._sums:
            total.assign(tf.zeros(total.shape))

    def _look(self) -> None:
        """On a replica: notes of which variables all sums are finite."""
        sums = [total.read_value() for total in self._sums]
        finite = tf.math.is_finite(diagnostics.norms_of(sums))
        context = tf.distribute.get_replica_context()
        bad = context.all_reduce(
            tf.distribute.ReduceOp.SUM, tf.cast(~finite, tf.int32)
        )
        self._finite.assign(tf.equal(bad, 0))

    def _skip(self) -> None:
        """On a replica: ends a step that changes nothing, and counts it."""
        self._skipped.assign_add(1)
        allowed = self._skipped <= self.config.trainer.max_skipped_updates
        self._note_first_bad(self._finite | allowed)
        self._empty_sums()
        self.task.skip_step(self.model)
        self.global_step.assign_add(1)

    def _note_first_bad(self, finite: tf.Tensor) -> None:
        """On a replica: notes the step if a gradient is the first bad one."""
        self._first_bad.assign(
            diagnostics.first_bad(self._first_bad, self.global_step, finite)
        )

    def _gradients(self, inputs: Inputs) -> list[tf.Tensor]:
        """On a replica: goes forward and backward; notes the metrics."""
        run: Callable[..., Any] = self.task.gradients
        on_tpu = isinstance(self.strategy, tf.distribute.TPUStrategy)
        if self.config.runtime.enable_xla and not on_tpu:
            run = tf.function(run, jit_compile=True)
        inputs = self.task.synchronize(inputs)
        gradients, losses = run(inputs, self.model, self.train_metrics)
        self._train_loss.update_state(losses)
        return gradients

    def _apply(self, gradients: list[tf.Tensor]) -> None:
        """On a replica: updates everything, once a step."""
        variables = self.task.trained_variables(self.model)
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        norms = diagnostics.norms_of(gradients)
        self._gradient_norm.assign(tf.norm(norms))
        self._note_first_bad(tf.math.is_finite(norms))
        self.optimizer.apply_gradients(
            list(zip(gradients, variables)),
            experimental_aggregate_gradients=False,
        )
        self.task.end_step(self.model)
        self.global_step.assign_add(1)

    def train_loop_begin(self) -> None:
        """Starts the clock."""
        super().train_loop_begin()
        self._began = time.perf_counter(), int(self.global_step.numpy())

    def train_loop_end(self) -> Logs:
        """Returns the figures of the steps since ``train_loop_begin``.

        Loss and metrics are means over their examples; the others are of the
        last step.
        """
        logs = super().train_loop_end()
        self._check_gradients()
        if self.may_skip:
            logs["skipped_updates"] = self._skipped
        logs["gradient_norm"] = self._gradient_norm.numpy()
        if self._trust_ratios:
            ratios = tf.stack([*self._trust_ratios.values()]).numpy()
            for name, reduce in REDUCTIONS.items():
                logs[f"trust_ratio_{name}"] = reduce(ratios)
        penalty = diagnostics.l2_penalty(
            self.optimizer, self.task.trained_variables(self.model)
        )
        if penalty is not None:
            logs["l2_penalty"] = penalty
        began, first = self._began
        steps = int(self.global_step.numpy()) - first
        examples = steps * self.config.task.train_data.global_batch_size
        # Read first, for a device may still be busy with them.
        figures = {name: as_float(value) for name, value in logs.items()}
        seconds = time.perf_counter() - began
        return {**figures, "examples_per_second": examples / seconds}

    def _check_gradients(self) -> None:
        """Raises DivergenceError if a gradient was no number in this loop."""
        step, place = self._first_bad.numpy()
        if step == NONE:
            return
        name = self.task.trained_variables(self.model)[place].name
        raise DivergenceError(
            f"the training diverged: in step {step + 1} the gradient of {name}"
            " and maybe more is not finite; a smaller learning rate or a "
            "longer warmup may help, and --model_dir has the last checkpoint"
        )

    def eval_reduce(self, state: Any = None, step_outputs: Any = None) -> Any:
        """Adds a batch to an evaluation, unless that is to stop."""
        stopping.check()
        return super().eval_reduce(state, step_outputs)

    def eval_end(self, aggregated_logs: Any = None) -> Logs:
        """Checks that every example counted once; returns the metrics."""
        if self.config.trainer.validation_steps == -1:
            self.task.check_evaluation(self.validation_metrics)
        return super().eval_end(aggregated_logs)


def cut_step(config: Any, task: Any, replicas: int) -> tuple[int, int]:
    """Cuts the global batch of an experiment.

    Args:
        config: its settings.
        task: what is learnt.
        replicas: how many share a step.

    Returns:
        The micro-batch, and how many of them a replica takes a step.

    Raises:
        UserError: it cannot be cut as the config says.
    """
    data = config.task.train_data
    size, count = cut(
        data.global_batch_size,
        replicas,
        config.trainer.micro_batch_size,
        task.virtual_batch_size,
    )
    check_streams(data, task.virtual_batch_size)
    task.check_micro_batch(size)
    return size, count


def check_streams(data: Any, multiple: int) -> None:
    """Raises UserError where groups would lie across streams.

    Args:
        data: the settings of the training data.
        multiple: the virtual batch size, of how many examples a group is.
    """
    if data.streams and data.global_batch_size % (data.streams * multiple):
        raise UserError(
            f"streams is {data.streams}, in task.train_data, but a step has "
            f"{data.global_batch_size} examples in groups of {multiple}; give "
            "a divisor of the number of groups"
        )


class OpenedLate:
    """Stands for data that is opened when the first step is taken.

    By then the checkpoint is restored, and the data can go on from where the
    run was.

    Args:
        open_data: opens it.
    """

    def __init__(self, open_data: Callable[[], Any]):
        self.open_data = open_data

    def __iter__(self) -> Iterator[Inputs]:
        return iter(self.open_data())


def distribute(
    build_inputs: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Returns what a function that builds datasets gives to the replicas."""
    strategy = tf.distribute.get_strategy()
    return orbit.utils.make_distributed_dataset(
        strategy, build_inputs, *args, **kwargs
    )


def as_float(value: Any) -> float:
    """Returns a number, a scalar tensor or a variable as a float."""
    return float(tf.convert_to_tensor(value))


def same_on_all_replicas(value: tf.Tensor) -> tf.Variable:
    """Returns a variable to which every replica assigns the same."""
    return tf.Variable(
        value,
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def cut(
    global_batch: int, replicas: int, micro_batch: int, multiple: int
) -> tuple[int, int]:
    """Cuts the global batch.

    Args:
        global_batch: examples a step.
        replicas: how many share them.
        micro_batch: examples that a replica takes at once; 0 means all.
        multiple: the virtual batch size, which must divide that.

    Returns:
        The micro-batch, and how many of them a replica takes a step.

    Raises:
        UserError: something does not divide as it must.
    """
    share, rest = divmod(global_batch, replicas)
    if rest or not share:
        raise UserError(
            f"global_batch_size is {global_batch}, in task.train_data, but "
            f"there are {replicas} replicas; give a multiple of that"
        )
    size = micro_batch or share
    fits = [
        each
        for each in range(multiple, share + 1, multiple)
        if share % each == 0
    ]
    if size not in fits:
        raise UserError(
            f"micro_batch_size is {size}, in trainer, but must divide the "
            f"{share} examples of a replica and be a multiple of "
            f"virtual_batch_size, which is {multiple}; "
            + (
                f"give one of {', '.join(map(str, fits))}"
                if fits
                else "change one of the three"
            )
        )
    return size, share // size
