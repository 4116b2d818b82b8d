"""The programs of a recipe's step, as one replica of a slice runs them.

They are those of the trainer itself: what a replica does with a micro-batch,
and what it does once a step. The sums over all replicas are in them.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
from official.core import config_definitions as cfg
from official.core import task_factory, train_utils
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.python.distribute import distribute_lib, one_device_strategy

from tf_largebatch.garden import train
from tf_largebatch.garden.trainer import Trainer

# The compiler for TPUs does not know it; it does nothing.
COPY = re.compile(r"= mhlo\.copy (%\S+) : (tensor<[^>]*>)")
PLACE = re.compile(r" loc\((?:[^()\"]|\"[^\"]*\"|\([^()]*\))*\)|^#loc.*$", re.M)
# How often TensorFlow had made a function before is part of its name.
COUNT = re.compile(r"(cond(?:_\d+)?_(?:true|false))_\d+")


class Extended(one_device_strategy.OneDeviceExtended):
    """One replica on this machine that takes itself for one of many."""

    replicas = 1

    @property
    def _num_replicas_in_sync(self) -> int:
        return self.replicas

    def _use_merge_call(self) -> bool:
        return False

    def _replica_ctx_all_reduce(
        self, reduce_op: Any, value: Any, options: Any = None
    ) -> Any:
        """Sums over the replicas by the operation that a TPU has for it."""
        del options
        everyone = tf.constant([[*range(self.replicas)]], tf.int32)

        def reduce(each: tf.Tensor) -> tf.Tensor:
            total = gen_xla_ops.xla_all_reduce(
                each, everyone, reduce_op="Add", mode="CrossReplica"
            )
            mean = reduce_op == tf.distribute.ReduceOp.MEAN
            return total / self.replicas if mean else total

        return tf.nest.map_structure(reduce, value)


class Pretended(distribute_lib.Strategy):
    """Traces what one of so many replicas does; it cannot run it.

    Args:
        replicas: how many there are to be.
    """

    def __init__(self, replicas: int):
        extended = Extended(self, "CPU:0")
        extended.replicas = replicas
        super().__init__(extended)


@dataclasses.dataclass(frozen=True)
class Program:
    """A program that a replica runs.

    Attributes:
        name: what it does.
        text: in StableHLO.
        times: how often a step runs it.
        variables: bytes of the variables that it reads or writes.
    """

    name: str
    text: str
    times: int
    variables: int


@dataclasses.dataclass(frozen=True)
class Step:
    """The programs of a step, and the state that lies beside them.

    Attributes:
        programs: which a step runs.
        optimizer: what of it the optimizer does, given the gradients.
        parameters: bytes of what is trained.
        slots: bytes of the optimizer's state.
        others: bytes of all other variables.
        trained: how many numbers are trained.
        micro_batch_size: examples of a micro-batch.
        micro_batches: how many a replica takes a step.
    """

    programs: Sequence[Program]
    optimizer: Program
    parameters: int
    slots: int
    others: int
    trained: int
    micro_batch_size: int
    micro_batches: int

    @property
    def state(self) -> int:
        """Bytes of all variables."""
        return self.parameters + self.slots + self.others


def trace(config: cfg.ExperimentConfig, replicas: int) -> Step:
    """Returns the programs of an experiment's step.

    Args:
        config: the experiment.
        replicas: how many share the global batch.

    Raises:
        UserError: the batch cannot be shared so, or a setting is wrong.
    """
    with train.precision(config.runtime):
        strategy = Pretended(replicas)
        with strategy.scope(), tf.variable_creator_scope(of_shared_memory):
            task = task_factory.get_task(config.task)
            trainer = Trainer(
                config,
                task,
                task.build_model(),
                train_utils.create_optimizer(task, config),
                evaluate=False,
            )
        return lower_all(trainer, strategy)


def of_shared_memory(
    create: Callable[..., tf.Variable], **kwargs: Any
) -> tf.Variable:
    """Creates a variable whose value no one needs, to be traced alone.

    All of one shape share their memory, as long as none is written. Where the
    shape is not told beforehand, the variable is as it would be.
    """
    shape, dtype = kwargs.get("shape"), kwargs.get("dtype")
    initial = kwargs["initial_value"]
    if tf.is_tensor(initial):
        shape, dtype = initial.shape, initial.dtype
    if shape is not None and dtype is not None:
        kwargs["initial_value"] = zeros(tuple(shape), tf.as_dtype(dtype))
    return create(**kwargs)


@functools.cache
def zeros(shape: tuple[int, ...], dtype: tf.DType) -> tf.Tensor:
    """Returns zeros, always the same ones."""
    return tf.zeros(shape, dtype)


def lower_all(trainer: Trainer, strategy: Pretended) -> Step:
    """Returns a trainer's programs; see :func:`trace`."""
    size, count = trainer.micro_batch_size, trainer.micro_batches
    inputs = (trainer.task.input_spec(size),)
    parts: list[tuple[str, Callable[..., None], tuple[Any, ...], int]]
    if count == 1 and not trainer.may_skip:
        parts = [("step", trainer._step, inputs, 1)]
    else:
        parts = [
            ("accumulate", trainer._accumulate, inputs, count),
            ("update", trainer._apply_sums, (), 1),
        ]
        if trainer.may_skip:
            parts.append(("look", trainer._look, (), 1))
    programs = [
        lower(strategy, name, function, inputs, times)
        for name, function, inputs, times in parts
    ]
    trained = trainer.task.trained_variables(trainer.model)
    parameters = size_of(trained)
    slots = size_of(trainer.optimizer.variables())
    every = {id(each): each for each in variables_of(trainer)}
    return Step(
        programs,
        lower(strategy, "optimizer", *apply(trainer), 1),
        parameters,
        slots,
        size_of(every.values()) - parameters - slots,
        sum(each.shape.num_elements() for each in trained),
        size,
        count,
    )


def apply(trainer: Trainer) -> tuple[Callable[..., None], tuple[Any, ...]]:
    """Returns the optimizer's part of a step, and shapes of the gradients."""
    trained = trainer.task.trained_variables(trainer.model)

    def update(gradients: list[tf.Tensor]) -> None:
        trainer.optimizer.apply_gradients(
            list(zip(gradients, trained)),
            experimental_aggregate_gradients=False,
        )

    specs = [tf.TensorSpec(each.shape, each.dtype) for each in trained]
    return update, (specs,)


def lower(
    strategy: Pretended,
    name: str,
    function: Callable[..., None],
    inputs: tuple[Any, ...],
    times: int,
) -> Program:
    """Returns what a replica runs as a program of its own."""

    @tf.function(jit_compile=True, autograph=False)
    def run(*values: Any) -> None:
        strategy.run(function, values)

    values = tf.nest.map_structure(
        lambda spec: zeros(tuple(spec.shape), spec.dtype), inputs
    )
    traced = run.get_concrete_function(*inputs)
    text = run.experimental_get_compiler_ir(*values)(stage="stablehlo")
    return Program(name, clean(text), times, size_of(traced.graph.variables))


def clean(text: str) -> str:
    """Returns a program without copies, places in the source, and counts.

    >>> clean("%1 = mhlo.copy %0 : tensor<2xf32> loc(#loc3)")
    '%1 = stablehlo.reshape %0 : (tensor<2xf32>) -> tensor<2xf32>'
    """
    text = COPY.sub(r"= stablehlo.reshape \1 : (\2) -> \2", text)
    return COUNT.sub(r"\1", PLACE.sub("", text))


def variables_of(trainer: Trainer) -> Iterator[tf.Variable]:
    """Yields all variables that a training has on a device."""
    yield from trainer.model.variables
    yield from trainer.optimizer.variables()
    yield from trainer._sums
    for metric in (trainer._train_loss, *trainer.train_metrics):
        yield from metric.variables
    yield from (
        trainer.global_step,
        trainer._first_bad,
        trainer._gradient_norm,
        *trainer._trust_ratios.values(),
    )
    if trainer.may_skip:
        yield from (trainer._finite, trainer._skipped)


def size_of(variables: Any) -> int:
    """Returns the bytes of variables."""
    return sum(
        each.shape.num_elements() * each.dtype.size for each in variables
    )
