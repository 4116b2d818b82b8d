"""Exports a trained network as a SavedModel that takes pictures."""

import os
from typing import Any

import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg
from official.core import task_factory

from tf_largebatch.errors import UserError
from tf_largebatch.garden import run_folder, train
from tf_largebatch.resnet import ghost_batch_norm
from tf_largebatch.resnet import input as inputs

DEFAULT = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY


class Classifier(tf.Module):
    """Classifies pictures, prepared as they are for evaluation.

    Its signatures give ``logits`` and ``probabilities``, float32 of shape
    (batch, classes), and ``classes``, the likeliest, int32 of shape (batch,).

    - ``serving_default`` takes ``image_bytes``, JPEGs, strings of shape
      (batch,);
    - ``image_tensor`` takes ``image_tensor``, pixels, uint8 of shape
      (batch, height, width, 3).

    Args:
        model: the network.
        data: the settings of evaluation.
    """

    def __init__(self, model: tf_keras.Model, data: inputs.DataConfig):
        super().__init__()
        # Not the model, with which Keras would save functions for training.
        self.weights = model.weights
        size = data.image_size
        picture = tf.TensorSpec((size, size, 3), data.dtype)

        def classify(prepare: Any, given: tf.Tensor) -> dict[str, tf.Tensor]:
            pictures = tf.map_fn(
                lambda each: prepare(each, data),
                given,
                fn_output_signature=picture,
            )
            logits = model(pictures, training=False)
            return {
                "logits": logits,
                "probabilities": tf.nn.softmax(logits),
                "classes": tf.argmax(logits, 1, tf.int32),
            }

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def of_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            return classify(inputs.evaluation_image, image_bytes)

        @tf.function(
            input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)]
        )
        def of_tensor(image_tensor: tf.Tensor) -> dict[str, tf.Tensor]:
            return classify(inputs.evaluation_picture, image_tensor)

        self.functions = {DEFAULT: of_bytes, "image_tensor": of_tensor}


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
        model = task_factory.get_task(config.task).build_model()
        ghost_batch_norm.defer_updates(model, deferred=False)
        restore(model, path)
        classifier = Classifier(model, config.task.validation_data)
    try:
        tf.saved_model.save(
            classifier, export_dir, signatures=classifier.functions
        )
        run_folder.write_parameters(export_dir, config)
    except run_folder.ERRORS as error:
        raise run_folder.cannot_write(export_dir, error) from error


def find(checkpoint: str) -> str:
    """Returns the path of a checkpoint, or of a folder's newest one.

    Raises:
        UserError: there is none.
    """
    if tf.io.gfile.exists(f"{checkpoint}.index"):
        return checkpoint
    found = run_folder.latest_checkpoint(checkpoint)
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
    except (*run_folder.ERRORS, AssertionError, ValueError) as error:
        raise UserError(
            f"{checkpoint} is no checkpoint of this network "
            f"({run_folder.first_line(error)}); give the recipe and the "
            "overrides that it was trained with"
        ) from error
