"""Trains and evaluates an experiment through the Model Garden."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras
from official.common import distribute_utils
from official.core import config_definitions as cfg
from official.core import task_factory, train_utils

from tf_largebatch import checkpoints
from tf_largebatch.errors import (
    DivergenceError,
    DoesNotFitError,
    RunError,
    UserError,
)
from tf_largebatch.experiments import Task, left_out
from tf_largebatch.garden import checking, run_folder, tracking
from tf_largebatch.garden.controller import (
    GONE,
    BestCheckpoint,
    Controller,
    NoSuchFigureError,
    Runner,
)
from tf_largebatch.garden.trainer import Trainer

# The settings of a runtime by which its strategy is made.
DISTRIBUTION = (
    "distribution_strategy",
    "num_gpus",
    "all_reduce_alg",
    "num_packs",
    "tpu",
)

# What Keras and the Garden raise at sizes that no network has.
UNBUILDABLE = (
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
    tf.errors.OpError,
)


def run(
    config: cfg.ExperimentConfig,
    mode: str,
    model_dir: str,
    strategy: tf.distribute.Strategy | None = None,
    wandb_project: str | None = None,
) -> dict[str, Any]:
    """Runs an experiment, from the beginning or from where it was stopped.

    Args:
        config: what to run.
        mode: one of ``checking.MODES``, which are the Model Garden's.
        model_dir: folder of checkpoints, summaries and ``params.yaml``.
        strategy: how to distribute; None means as the config says.
        wandb_project: where to send the figures at Weights & Biases, if
            anywhere.

    Returns:
        The figures of the last evaluation, the ``step`` the run is at, and,
        where broken records may be left out, how many were.

    Raises:
        UserError: a setting is wrong, or the folder cannot be used.
        RunError: it failed; a DivergenceError where the loss did, a
            DoesNotFitError where the memory was too small.
    """
    config = checking.resolve(config, mode)
    with precision(config.runtime):
        strategy = strategy or make_strategy(config.runtime)
        runner = build(config, mode, model_dir, strategy)
        for note in checking.notes(config, mode):
            say(f"note: {note}")
        task, data = runner.trainer.task, data_of(config.task, mode)
        reading = task.naming_broken_records(*data.values())
        controller = runner.controller
        with (
            tracking.sent(controller, wandb_project, config, mode, model_dir),
            saved_when_stopped(controller),
            explained(reading, is_one_of_several(strategy)),
        ):
            figures = runner.run() | left_out(task, **data)
    figures = {name: float(value) for name, value in figures.items()}
    return {**figures, "step": controller.step}


@contextlib.contextmanager
def precision(runtime: cfg.RuntimeConfig) -> Iterator[None]:
    """Lets layers compute in the runtime's dtype while the context lasts.

    Raises:
        UserError: it is neither float32 nor bfloat16.
    """
    policies = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
    dtype = runtime.mixed_precision_dtype or "float32"
    if dtype not in policies:
        raise UserError(
            f"mixed_precision_dtype is {dtype}, in runtime; give one of "
            f"{', '.join(policies)}"
        )
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(policies[dtype])
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


def make_strategy(runtime: cfg.RuntimeConfig) -> tf.distribute.Strategy:
    """Returns the strategy that the settings ask for.

    Raises:
        UserError: there is none such, or not so many devices.
    """
    check_gpus(runtime)
    try:
        return distribute_utils.get_distribution_strategy(
            distribution_strategy=runtime.distribution_strategy,
            num_gpus=runtime.num_gpus,
            all_reduce_alg=runtime.all_reduce_alg,
            num_packs=runtime.num_packs,
            tpu_address=runtime.tpu,
        )
    except (ValueError, RuntimeError, *checkpoints.ERRORS) as error:
        # Of the system's errors, where there is no server to ask for a TPU.
        raise UserError(
            f"there is no {runtime.distribution_strategy!r} to run on: "
            f"{checkpoints.first_line(error)}; change runtime"
        ) from error


def check_gpus(runtime: cfg.RuntimeConfig) -> None:
    """Raises UserError if more GPUs are asked for than there are.

    TensorFlow would take the CPU instead, or so many times the same one.
    """
    strategy = str(runtime.distribution_strategy).lower()
    if strategy in ("tpu", "multi_worker_mirrored"):
        return  # They take what there is, whatever is asked for.
    there = len(tf.config.list_physical_devices("GPU"))
    if runtime.num_gpus > there:
        raise UserError(
            f"num_gpus is {runtime.num_gpus}, in runtime, but TensorFlow "
            f"finds {there} GPUs; give at most as many, or see why with "
            "TF_CPP_MIN_LOG_LEVEL=0"
        )


def build(
    config: cfg.ExperimentConfig,
    mode: str,
    model_dir: str,
    strategy: tf.distribute.Strategy,
) -> Runner:
    """Returns what runs the experiment, its checkpoint restored.

    Raises:
        UserError: a setting is wrong, or the folder cannot be used.
    """
    with strategy.scope():
        task = task_factory.get_task(config.task, logging_dir=model_dir)
        find_data(task, mode)
        find_start(config.task, mode, model_dir)
        trainer = Trainer(
            config,
            task,
            build_model(task),
            train_utils.create_optimizer(task, config),
            train="train" in mode,
            evaluate="eval" in mode,
            checkpoint_exporter=BestCheckpoint.of(
                config, model_dir, strategy.extended.should_checkpoint
            ),
        )
    enter(model_dir, config, mode, strategy.extended.should_checkpoint)
    return Runner(
        strategy,
        task,
        mode,
        without_recovery(config),
        model_dir,
        trainer=trainer,
        controller_cls=Controller,
    )


def without_recovery(config: Any) -> Any:
    """Returns settings by which a loss may be no number, where updates may.

    The Garden's recovery would end the training after a step that is skipped.
    """
    if not config.trainer.max_skipped_updates:
        return config
    return config.replace(trainer={"recovery_max_trials": -1})


def build_model(task: Task) -> tf_keras.Model:
    """Returns a task's network.

    Raises:
        UserError: a size, a name or the seed is none that a network can have.
    """
    try:
        return task.build_model()
    except UserError:
        raise
    except UNBUILDABLE as error:
        words = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(
            f"no network can be built: {words}, in task; correct it"
        ) from error


def data_of(task: cfg.TaskConfig, mode: str) -> dict[str, Any]:
    """Returns the settings of the data that a mode reads, by their name."""
    read = {"train_data": "train", "validation_data": "eval"}
    return {
        name: getattr(task, name) for name, word in read.items() if word in mode
    }


def find_data(task: Task, mode: str) -> None:
    """Looks whether the data is there, before anything is built.

    Raises:
        UserError: it is not, or is not for what it is to be used for.
    """
    for name, data in data_of(task.task_config, mode).items():
        training = name == "train_data"
        # Another package's task may do without.
        if getattr(data, "is_training", training) is not training:
            raise UserError(
                f"is_training is {data.is_training}, in task.{name}; leave it "
                f"at {training}"
            )
        if getattr(data, "global_batch_size", 1) < 1:
            raise UserError(
                f"global_batch_size is {data.global_batch_size}, in "
                f"task.{name}; give 1 or more"
            )
        try:
            task.open_data(data)
        except UserError as error:
            raise UserError(f"task.{name}: {error}") from error


def find_start(task: cfg.TaskConfig, mode: str, model_dir: str) -> None:
    """Looks whether a run that is to begin from a checkpoint can.

    Raises:
        UserError: there is none; the Model Garden would begin without.
    """
    start = task.init_checkpoint
    if "train" not in mode or not start or checkpoints.newest(model_dir):
        return
    if not checkpoints.find(start):
        raise UserError(
            f"there is no checkpoint {start}, in task.init_checkpoint; give "
            "the folder of a run, or the path of a checkpoint without .index"
        )


def enter(
    model_dir: str, config: cfg.ExperimentConfig, mode: str, writes: bool
) -> None:
    """Claims the folder for training, or checks what is to be evaluated.

    Args:
        model_dir: the folder.
        config: what is to be run.
        mode: see :func:`run`.
        writes: whether this process does, as the first of several workers.

    Raises:
        UserError: it cannot be used for that.
    """
    if "train" in mode:
        run_folder.claim(model_dir, config, writes)
    elif checkpoints.newest(model_dir):
        run_folder.check(model_dir, config, run_folder.OF_THE_MODEL)
    elif mode == "eval":
        raise UserError(
            f"there is no checkpoint in {model_dir}; give the --model_dir of "
            "a run"
        )


@contextlib.contextmanager
def saved_when_stopped(controller: Controller) -> Iterator[None]:
    """Saves what was trained when Ctrl-C or SIGTERM ends the context.

    Both raise between two steps, for a step is one program. One of several
    workers cannot save without the others. Nor is anything lost by a setting
    that turns out to be wrong after an evaluation.
    """
    try:
        yield
    except NoSuchFigureError:
        if not is_one_of_several(controller.strategy):
            save(controller)
        raise
    except (KeyboardInterrupt, SystemExit):
        if is_one_of_several(controller.strategy):
            say(
                "stopped; the same commands on all machines go on from the "
                "last checkpoint"
            )
        elif save(controller):
            say(
                f"stopped; saved at step {controller.step}, and the same "
                "command goes on from there"
            )
        raise


def save(controller: Controller) -> bool:
    """Saves what was trained; returns whether anything was."""
    if controller.trainer is None or not controller.step:
        return False
    controller.save_checkpoint()
    return True


def is_one_of_several(strategy: tf.distribute.Strategy) -> bool:
    """Whether other processes train as well."""
    resolver = strategy.cluster_resolver
    if resolver is None or isinstance(strategy, tf.distribute.TPUStrategy):
        return False
    workers = resolver.cluster_spec().as_dict().get("worker", [])
    return len(workers) > 1


@contextlib.contextmanager
def explained(
    reading: contextlib.AbstractContextManager[None],
    one_of_several: bool,
) -> Iterator[None]:
    """Turns what can go wrong in a run into one line.

    Args:
        reading: turns what is wrong with the data into a UserError.
        one_of_several: whether other workers can be gone.

    Raises:
        UserError: a record of the data is broken.
        DivergenceError: the loss is too large or not a number.
        DoesNotFitError: no memory was left.
        RunError: another worker is gone.
    """
    try:
        with reading:
            yield
    except RunError:
        raise
    except RuntimeError as error:
        # By the Garden's RecoveryCondition.
        if "The loss value is" not in str(error):
            raise
        raise DivergenceError(
            f"the training diverged: {str(error).rstrip('.')}"
        ) from error
    except tf.errors.ResourceExhaustedError as error:
        raise DoesNotFitError(
            "out of memory; give a smaller trainer.micro_batch_size, which "
            "changes nothing else"
        ) from error
    except GONE as error:
        if not one_of_several:
            raise
        raise RunError(
            "another worker is gone; start all again with the same commands, "
            "and the run goes on from its last checkpoint"
        ) from error


def say(text: str) -> None:
    """Tells the person who waits."""
    print(text, file=sys.stderr, flush=True)
