"""Exports a trained network as a SavedModel, in its task's form."""

import os

import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg
from official.core import task_factory

from tf_largebatch import checkpoints
from tf_largebatch.errors import UserError
from tf_largebatch.garden import run_folder, train


def export(
    config: cfg.ExperimentConfig, checkpoint: str, export_dir: str
) -> None:
    """Writes a SavedModel, and its settings as ``params.yaml``.

    Args:
        config: the experiment.
        checkpoint: its path, or a folder, of which the newest is taken.
        export_dir: to be made.

    Raises:
        UserError: no such checkpoint, one of another network, or a folder
            that holds something already.
    """
    path = find(checkpoint)
    folder = os.path.dirname(path)
    if tf.io.gfile.exists(tf.io.gfile.join(folder, run_folder.PARAMETERS)):
        run_folder.check(folder, config, run_folder.OF_THE_MODEL)
    if tf.io.gfile.exists(export_dir) and tf.io.gfile.listdir(export_dir):
        raise UserError(f"{export_dir} is not empty; give a new --export_dir")
    with train.precision(config.runtime):
        task = task_factory.get_task(config.task)
        model = train.build_model(task)
        restore(model, path)
        module = task.export_module(model)
    try:
        tf.saved_model.save(module, export_dir, signatures=module.functions)
        run_folder.write_parameters(export_dir, config)
    except checkpoints.ERRORS as error:
        raise run_folder.cannot_write(export_dir, error) from error


def find(checkpoint: str) -> str:
    """Returns the path of a checkpoint, or of a folder's newest one.

    Raises:
        UserError: there is none.
    """
    found = checkpoints.find(checkpoint)
    if found is None:
        raise UserError(
            f"there is no checkpoint {checkpoint}; give the folder of a run, "
            "or a path such as FOLDER/ckpt-2512"
        )
    return found


def restore(model: tf_keras.Model, checkpoint: str) -> None:
    """Restores a network from a run's checkpoint.

    Raises:
        UserError: it is one of another network, or cannot be read.
    """
    try:
        restored = tf.train.Checkpoint(model=model).read(checkpoint)
        # Of the optimizer's variables nothing is expected.
        restored.expect_partial().assert_existing_objects_matched()
    except (*checkpoints.ERRORS, AssertionError, ValueError) as error:
        raise UserError(
            f"{checkpoint} is no checkpoint of this network "
            f"({checkpoints.first_line(error)}); give the recipe and the "
            "overrides that it was trained with"
        ) from error
