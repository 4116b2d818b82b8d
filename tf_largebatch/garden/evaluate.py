"""Evaluates a SavedModel on pictures in TFRecord files."""

from collections.abc import Callable

import tensorflow as tf

from tf_largebatch.errors import UserError
from tf_largebatch.garden import export, run_folder
from tf_largebatch.garden.overrides import override
from tf_largebatch.resnet import input as inputs
from tf_largebatch.resnet import records, task

BATCH = 64


def evaluate(
    saved_model: str, input_path: str | None = None
) -> dict[str, float]:
    """Returns the figures of a SavedModel, each example counted once.

    Args:
        saved_model: a folder that :func:`tf_largebatch.garden.export.export`
            wrote.
        input_path: TFRecord files, as patterns; None means the data that the
            network was trained to be evaluated on.

    Returns:
        ``accuracy`` and ``top_5_accuracy``, in [0, 1], ``validation_loss``,
        without label smoothing, and ``examples``, the number of pictures.

    Raises:
        UserError: no such SavedModel, or something is wrong with the data.
    """
    classify = load(saved_model)
    config = data_of(saved_model, input_path)
    metrics = task.make_metrics(training=False)
    with inputs.naming_broken_records(config):
        for pictures, labels in pictures_of(config):
            task.update_metrics(metrics, labels, classify(pictures))
    figures = {metric.name: float(metric.result()) for metric in metrics}
    if config.num_examples not in (0, figures["examples"]):
        raise UserError(
            f"there are {figures['examples']:.0f} examples, not "
            f"{config.num_examples}, in {config.input_path}; give --input"
        )
    return figures


def data_of(saved_model: str, input_path: str | None) -> inputs.DataConfig:
    """Returns the settings of the data that a SavedModel is evaluated on."""
    config = inputs.DataConfig()
    parameters = run_folder.read_parameters(saved_model)
    override(config, parameters["task"]["validation_data"], saved_model)
    if input_path is None:
        return config
    return config.replace(input_path=input_path, tfds_name="", num_examples=0)


def load(saved_model: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function from encoded pictures to logits.

    Raises:
        UserError: the folder holds no SavedModel.
    """
    try:
        model = tf.saved_model.load(saved_model)
    except run_folder.ERRORS as error:
        raise UserError(
            f"there is no SavedModel in {saved_model}: "
            f"{run_folder.first_line(error)}; give the --export_dir of an "
            "export"
        ) from error
    classify = model.signatures[export.DEFAULT]

    def logits_of(pictures: tf.Tensor) -> tf.Tensor:
        return classify(image_bytes=pictures)["logits"]

    # The signature is of no use without the model.
    logits_of.model = model  # type: ignore[attr-defined]
    return logits_of


def pictures_of(config: inputs.DataConfig) -> tf.data.Dataset:
    """Returns batches of encoded pictures and their classes."""
    source = inputs.open_source(config)

    def look(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        encoded, label = source.parse(record)
        return encoded, inputs.class_of(label, source, config)

    stored = records.read(source.pieces, config.cycle_length)
    return stored.map(look, tf.data.AUTOTUNE).batch(BATCH)
