"""What the experiments share: the trainer's settings, and how tasks are learnt.

An experiment's task is a :class:`Task`, whose gradients
:class:`tf_largebatch.garden.trainer.Trainer` adds up over micro-batches.
"""

import abc
import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras
from official.core import base_task
from official.core import config_definitions as cfg

from tf_largebatch.errors import RunError
from tf_largebatch.tf_keras import model_garden

Metrics = Sequence[tf_keras.metrics.Metric]


@dataclasses.dataclass
class TrainerConfig(cfg.TrainerConfig):
    """How it is learnt.

    Attributes:
        micro_batch_size: examples that a replica takes at once. It takes its
            share of the global batch in so many goes, adds up the gradients,
            and updates the weights once. 0 means all at once.
        evaluation_epochs: if not 0, evaluates every so many epochs instead of
            every ``validation_interval`` steps; MLPerf's value is 4.
        target_accuracy: if not 0, ``train_and_eval`` ends at the first
            evaluation whose accuracy is at least that.
        max_skipped_updates: so many steps of a run may leave everything as it
            is, the optimizer's count of steps too, because a gradient is not
            finite; at the next one training has diverged. 0, the default,
            spares the look before the step. ``skipped_updates`` among the
            figures is their count.
        train_tf_while_loop: whether ``steps_per_loop`` steps are one program.
            Off, unlike the Garden's, so that a signal to stop is answered
            after the step; on a TPU, which it saves time, it is set.
    """

    micro_batch_size: int = 0
    max_skipped_updates: int = 0
    evaluation_epochs: float = 0.0
    target_accuracy: float = 0.0
    train_tf_while_loop: bool = False


class Task(base_task.Task, abc.ABC):
    """A task whose gradients add up over micro-batches and replicas.

    A trainer that accumulates takes a step so: for every micro-batch of every
    replica :meth:`synchronize` and :meth:`gradients`, then the optimizer with
    the sum of all gradients, then :meth:`end_step`. :meth:`train_step` does it
    all for a trainer that does not, such as the Garden's.

    Attributes:
        accuracy: the figure of an evaluation that ``target_accuracy`` is
            about, in [0, 1].
    """

    accuracy = "accuracy"

    @property
    def virtual_batch_size(self) -> int:
        """Of how many examples a micro-batch must be a multiple."""
        return 1

    @classmethod
    def create_optimizer(
        cls,
        optimizer_config: Any,
        runtime_config: Any = None,
        dp_config: Any = None,
    ) -> tf_keras.optimizers.Optimizer:
        """Returns the optimizer with its schedule."""
        del runtime_config, dp_config
        return model_garden.build_optimizer(optimizer_config)

    def check_micro_batch(self, size: int) -> None:
        """Raises UserError if a replica cannot take so many at once."""

    def check_optimizer(self, optimizer: Any) -> None:
        """Raises UserError if the task cannot be learnt with it."""

    def trained_variables(self, model: tf_keras.Model) -> list[tf.Variable]:
        """Returns the variables that the loss depends on, in their order."""
        return model.trainable_variables

    def synchronize(self, inputs: Any) -> Any:
        """On a replica: adds to a micro-batch what other replicas know.

        It is not compiled by XLA, which :meth:`gradients` may be.
        """
        return inputs

    @abc.abstractmethod
    def gradients(
        self, inputs: Any, model: tf_keras.Model, metrics: Metrics
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Goes forward and backward.

        Args:
            inputs: what :meth:`synchronize` returned, of one replica and one
                micro-batch.
            model: the network.
            metrics: those of training, which take note of the examples.

        Returns:
            For each of :meth:`trained_variables` a gradient, such that their
            sum over all micro-batches and replicas is the step's; and for
            each example a loss, such that their mean over the global batch
            is the step's.
        """

    def end_step(self, model: tf_keras.Model) -> None:
        """On a replica: updates what is updated once a step."""
        del model  # AutoGraph cannot do with a docstring alone.

    def skip_step(self, model: tf_keras.Model) -> None:
        """On a replica: forgets what :meth:`end_step` would have used."""
        del model  # As above.

    def train_step(
        self,
        inputs: Any,
        model: tf_keras.Model,
        optimizer: tf_keras.optimizers.Optimizer,
        metrics: Metrics | None = None,
    ) -> dict[str, tf.Tensor]:
        """Takes a step without accumulation, as the Garden's trainer asks."""
        gradients, losses = self.gradients(
            self.synchronize(inputs), model, metrics or []
        )
        variables = self.trained_variables(model)
        optimizer.apply_gradients(list(zip(gradients, variables)))
        self.end_step(model)
        return {self.loss: tf.reduce_mean(losses)}

    @abc.abstractmethod
    def build_inputs(
        self,
        params: Any,
        input_context: tf.distribute.InputContext | None = None,
        micro_batch_size: int | None = None,
        first_example: int = 0,
    ) -> tf.data.Dataset:
        """Returns one host's micro-batches, or batches of evaluation.

        Args:
            params: ``train_data`` or ``validation_data``.
            input_context: which host of how many, and the replicas.
            micro_batch_size: examples of one replica and one micro-batch;
                None means without accumulation. For training only.
            first_example: how many of the run's examples are done already.
        """

    @abc.abstractmethod
    def input_spec(self, micro_batch_size: int) -> Any:
        """Returns shapes and types of a micro-batch of :meth:`build_inputs`.

        No data is looked for.
        """

    @abc.abstractmethod
    def open_data(self, params: Any) -> Any:
        """Looks whether the data is there.

        Args:
            params: ``train_data`` or ``validation_data``.

        Returns:
            Where its records are, if it has any.

        Raises:
            UserError: it is not, or more records are broken than may be left
                out.
        """

    @abc.abstractmethod
    def naming_broken_records(
        self, *params: Any
    ) -> contextlib.AbstractContextManager[None]:
        """Makes a failure of the input in a block name file and record.

        Args:
            params: what of ``train_data`` and ``validation_data`` is read.
        """

    @abc.abstractmethod
    def export_module(self, model: tf_keras.Model) -> tf.Module:
        """Returns what is to be saved of a network as a SavedModel.

        Its attribute ``functions`` has the signatures, by name.
        """

    @abc.abstractmethod
    def evaluate_export(
        self, exported: Any, input_path: str | None = None
    ) -> dict[str, float]:
        """Evaluates what :meth:`export_module` returned.

        Args:
            exported: that, saved and loaded.
            input_path: other data than ``validation_data`` names.

        Returns:
            The figures that an evaluation in training has.

        Raises:
            UserError: something is wrong with the data.
        """

    def check_evaluation(self, metrics: Metrics) -> None:
        """Raises RunError if an evaluation of all did not count each once."""
        data = self.task_config.validation_data
        (examples,) = (each for each in metrics if each.name == "examples")
        counted = int(examples.result().numpy())
        broken = sum(left_out(self, validation_data=data).values())
        if data.num_examples not in (0, counted + broken):
            raise RunError(
                f"the evaluation counted {counted} examples of "
                f"{data.num_examples}, which "
                "task.validation_data.num_examples says there are"
            )


def left_out(task: Task, **data: Any) -> dict[str, int]:
    """Returns how many broken records are left out, where some may be.

    Args:
        task: whose data it is.
        data: ``train_data``, ``validation_data`` or both.

    Returns:
        Figures of a run, such as ``train_data_left_out``.
    """
    return {
        f"{name}_left_out": task.open_data(each).left_out
        for name, each in data.items()
        # The questions of SQuAD are not in records.
        if getattr(each, "max_corrupt_records", 0)
    }


def share_of(global_batch_size: int, replicas: int) -> int:
    """Returns how many examples of a batch a replica takes, at most."""
    return -(-global_batch_size // replicas)
