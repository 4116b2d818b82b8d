"""Looks at a run's settings before anything is made by them."""

import math
from collections.abc import Iterator
from typing import Any

from official.core import config_definitions as cfg

from tf_largebatch.errors import UserError

MODES = (
    "train",
    "eval",
    "train_and_eval",
    "continuous_eval",
    "train_and_post_eval",
)

# Numbers of a trainer that must be 1 or more, and those for training alone.
COUNTS = (
    "checkpoint_interval",
    "max_to_keep",
    "summary_interval",
    "validation_interval",
)
COUNTS_IN_TRAINING = ("train_steps",)
# Of the best checkpoint's metric.
COMPARISONS = ("higher", "lower")
# The settings of a runtime that the Garden declares, and neither its trainer
# nor this one reads.
UNREAD = (
    "batchnorm_spatial_persistent",
    "dataset_num_private_threads",
    "default_shard_dim",
    "gpu_thread_mode",
    "loss_scale",
    "num_cores_per_replica",
    "per_gpu_thread_count",
    "run_eagerly",
    "task_index",
    "use_tpu_mp_strategy",
    "worker_hosts",
)


def resolve(config: cfg.ExperimentConfig, mode: str) -> cfg.ExperimentConfig:
    """Returns the settings with what follows from others; checks some.

    Raises:
        UserError: a setting is wrong.
    """
    if mode not in MODES:
        raise UserError(
            f"mode is {mode!r}, in --mode; give one of {', '.join(MODES)}"
        )
    check_trainer(config.trainer, mode)
    if not config.trainer.evaluation_epochs:
        return config
    data = config.task.train_data
    for name in ("num_examples", "global_batch_size"):
        if getattr(data, name) < 1:
            raise UserError(
                f"evaluation_epochs is set, in trainer, but {name} is "
                f"{getattr(data, name)}, so that it is not known how long an "
                f"epoch is; set {name}, in task.train_data"
            )
    examples = config.trainer.evaluation_epochs * data.num_examples
    steps = max(1, math.ceil(examples / data.global_batch_size))
    return config.replace(trainer={"validation_interval": steps})


def check_trainer(trainer: Any, mode: str) -> None:
    """Raises UserError at a number that a trainer cannot have."""
    for name in COUNTS + COUNTS_IN_TRAINING * ("train" in mode):
        if getattr(trainer, name) < 1:
            raise UserError(
                f"{name} is {getattr(trainer, name)}, in trainer; give 1 or "
                "more"
            )
    if trainer.validation_steps != -1 and trainer.validation_steps < 1:
        raise UserError(
            f"validation_steps is {trainer.validation_steps}, in trainer; give "
            "1 or more, or -1 for all"
        )
    if not 0 <= trainer.evaluation_epochs < math.inf:
        raise UserError(
            f"evaluation_epochs is {trainer.evaluation_epochs}, in trainer; "
            "give a number above 0, or 0 for validation_interval"
        )
    check_best_checkpoint(trainer)
    if trainer.steps_per_loop < 1 or (
        trainer.summary_interval % trainer.steps_per_loop
    ):
        raise UserError(
            f"steps_per_loop is {trainer.steps_per_loop} and summary_interval "
            f"{trainer.summary_interval}, in trainer; the one must be at "
            "least 1 and divide the other"
        )


def check_best_checkpoint(trainer: Any) -> None:
    """Raises UserError at half of what keeping the best checkpoint needs."""
    folder = trainer.best_checkpoint_export_subdir
    metric = trainer.best_checkpoint_eval_metric
    if bool(folder) != bool(metric):
        raise UserError(
            f"best_checkpoint_export_subdir is {folder!r} and "
            f"best_checkpoint_eval_metric {metric!r}, in trainer; give both or "
            "none"
        )
    if folder and trainer.best_checkpoint_metric_comp not in COMPARISONS:
        raise UserError(
            "best_checkpoint_metric_comp is "
            f"{trainer.best_checkpoint_metric_comp!r}, in trainer; give one of "
            f"{', '.join(COMPARISONS)}"
        )


def notes(config: cfg.ExperimentConfig, mode: str) -> Iterator[str]:
    """Yields what is no mistake, but may not be what was meant."""
    trainer, runtime = config.trainer, config.runtime
    schedule = trainer.optimizer_config.learning_rate
    steps = getattr(schedule.get(), "total_steps", None)
    if "train" in mode and steps not in (None, trainer.train_steps):
        yield (
            f"train_steps is {trainer.train_steps}, and the learning rate's "
            f"schedule is for {steps}; to change that as well give trainer."
            f"optimizer_config.learning_rate.{schedule.type}.total_steps"
        )
    defaults = type(runtime)()
    for name in UNREAD:
        value = getattr(runtime, name)
        if value != getattr(defaults, name):
            yield f"{name} is {value}, in runtime, where it has no effect"
