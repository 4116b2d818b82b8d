"""What is exported of ResNet, and the pictures to evaluate an export on."""

from typing import Any

import tensorflow as tf
import tf_keras

from tf_largebatch import records
from tf_largebatch.resnet import ghost_batch_norm
from tf_largebatch.resnet import input as inputs

DEFAULT = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
BATCH = 64


class Classifier(tf.Module):
    """Classifies pictures, prepared as they are for evaluation.

    Its signatures give ``logits`` and ``probabilities``, float32 of shape
    (batch, classes), and ``classes``, the likeliest, int32 of shape (batch,).

    - ``serving_default`` takes ``image_bytes``, JPEGs, strings of shape
      (batch,);
    - ``image_tensor`` takes ``image_tensor``, pixels, uint8 of shape
      (batch, height, width, 3).

    Args:
        model: the network, which can be trained no more.
        data: the settings of evaluation.
    """

    def __init__(self, model: tf_keras.Model, data: inputs.DataConfig):
        super().__init__()
        ghost_batch_norm.defer_updates(model, deferred=False)
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


def encoded_pictures(config: inputs.DataConfig) -> tf.data.Dataset:
    """Returns batches of JPEGs and their classes, each picture once.

    Raises:
        UserError: a value in the config that it cannot have, no data, or not
            ``num_examples`` of them.
    """
    source = inputs.open_source(config)
    records.count(source, config)

    def look(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        encoded, label = source.parse(record)
        return encoded, inputs.class_of(label, source, config)

    stored = records.read(source.pieces, config.cycle_length)
    return stored.map(look, tf.data.AUTOTUNE).batch(BATCH)
