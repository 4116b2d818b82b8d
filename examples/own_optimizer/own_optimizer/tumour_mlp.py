"""A small network on scikit-learn's breast cancer data: no download."""

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from sklearn import datasets

from tf_largebatch import workloads


class Task(workloads.Workload):
    """Tells malignant from benign tumours, judged by accuracy.

    Its setting is ``label_smoothing``.
    """

    family: ClassVar[str] = "keras"
    loss_settings = ("label_smoothing",)

    def data(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns the splits, in an order that is always the same."""
        found = datasets.load_breast_cancer()
        order = np.random.default_rng(0).permutation(len(found.target))
        ends = np.cumsum([*self.config["splits"].values()])
        parts = dict(zip(self.config["splits"], np.split(order, ends[:-1])))
        x = found.data[parts["train"]]
        scaled = (found.data - x.mean(0)) / x.std(0)
        labels = found.target.astype("float32")
        return {
            name: (scaled[part].astype("float32"), labels[part])
            for name, part in parts.items()
        }

    def build_model(
        self, seed: int, settings: workloads.Settings
    ) -> keras.Model:
        """Returns a new network, whose weights the seed decides."""
        del settings
        seeds = keras.random.SeedGenerator(seed)
        initial = keras.initializers.GlorotUniform(seeds)
        return keras.Sequential(
            [
                keras.Input((30,)),
                keras.layers.Dense(
                    16, "relu", kernel_initializer=initial, name="hidden"
                ),
                keras.layers.Dense(1, kernel_initializer=initial, name="head"),
            ]
        )

    def loss(
        self, model: keras.Model, examples: Any, settings: workloads.Settings
    ) -> tf.Tensor:
        """Returns the mean cross entropy of a batch in training."""
        inputs, labels = examples
        smoothing = tf.convert_to_tensor(settings["label_smoothing"])
        targets = (1.0 - smoothing) * labels + 0.5 * smoothing
        return cross_entropy(targets, model(inputs, training=True))

    def measure(
        self, model: keras.Model, examples: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the accuracy, and the loss without label smoothing."""
        inputs, labels = examples
        logits = model(inputs, training=False)
        right = (logits[:, 0] > 0) == (labels > 0.5)
        accuracy = tf.reduce_mean(tf.cast(right, tf.float64))
        return accuracy, cross_entropy(labels, logits)


def cross_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the mean cross entropy."""
    return tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(targets, logits[:, 0])
    )
