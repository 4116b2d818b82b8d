"""Evaluates a SavedModel, on the data that its task is about."""

from typing import Any

import tensorflow as tf
from official.core import task_factory

from tf_largebatch import checkpoints
from tf_largebatch.errors import UserError
from tf_largebatch.garden import settings


def evaluate(
    saved_model: str, input_path: str | None = None
) -> dict[str, float]:
    """Returns the figures of a SavedModel, each example counted once.

    Args:
        saved_model: a folder that :func:`tf_largebatch.garden.export.export`
            wrote.
        input_path: the data, as ``task.validation_data.input_path`` has it;
            None means what the network was trained to be evaluated on.

    Returns:
        The figures that an evaluation in training has.

    Raises:
        UserError: no such SavedModel, or something is wrong with the data.
    """
    exported = load(saved_model)
    task = task_factory.get_task(settings.of_folder(saved_model).task)
    return task.evaluate_export(exported, input_path)


def load(saved_model: str) -> Any:
    """Returns what a folder holds.

    Raises:
        UserError: no SavedModel.
    """
    try:
        return tf.saved_model.load(saved_model)
    except checkpoints.ERRORS as error:
        raise UserError(
            f"there is no SavedModel in {saved_model}: "
            f"{checkpoints.first_line(error)}; give the --export_dir of an "
            "export"
        ) from error
