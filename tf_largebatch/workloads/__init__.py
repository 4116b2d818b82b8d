"""Small real workloads that need no download.

A workload is a YAML file in ``official_configs/workloads`` and the module of
the same name here, which has ``data`` and ``build_model``.
"""

import functools
import importlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Workload:
    """Data, model, loss and metric of one workload, on TensorFlow.

    Args:
        config: content of the workload's YAML file.
    """

    def __init__(self, config: Mapping[str, Any]):
        self.config = config
        self.module = importlib.import_module(f"{__name__}.{config['name']}")
        self.batch: int = config["batch"]
        self.virtual_batch_size: int = config["virtual_batch_size"]
        self.evaluations: int = config["evaluations"]
        self.splits: dict[str, tuple[tf.Tensor, tf.Tensor]] = {
            name: (tf.constant(images), tf.constant(labels))
            for name, (images, labels) in self.module.data(
                config["splits"]
            ).items()
        }

    def build_model(self, gamma_0: float, seed: int) -> keras.Model:
        """Returns a new model; ``seed`` is that of its initial weights."""
        return self.module.build_model(self.virtual_batch_size, gamma_0, seed)

    @functools.cache  # noqa: B019 (a process has one workload)
    def initial_weights(self, gamma_0: float, seed: int) -> list[np.ndarray]:
        """Returns the weights that a new model has."""
        return self.build_model(gamma_0, seed).get_weights()

    def order(self, seed: int, steps: int) -> np.ndarray:
        """Returns the examples of every batch, int32 of (steps, batch).

        Every epoch is shuffled anew; batches run on across its end.
        """
        examples = len(self.splits["train"][1])
        epochs = -(-steps * self.batch // examples)
        shuffler = np.random.default_rng(seed)
        order = [shuffler.permutation(examples) for _ in range(epochs)]
        batches = np.concatenate(order)[: steps * self.batch]
        return batches.reshape(steps, self.batch).astype(np.int32)

    def loss(self, labels: Any, logits: Any, label_smoothing: Any) -> Any:
        """Returns the mean cross entropy with (1 - tau) onehot + tau / k."""
        classes = logits.shape[-1]
        smoothed = (1.0 - label_smoothing) * tf.one_hot(labels, classes)
        smoothed += label_smoothing / classes
        return tf.reduce_mean(
            tf.nn.softmax_cross_entropy_with_logits(smoothed, logits)
        )

    def metric(self, labels: Any, logits: Any) -> Any:
        """Returns the part of the examples that is classified rightly."""
        predictions = tf.argmax(logits, axis=-1, output_type=labels.dtype)
        return tf.reduce_mean(tf.cast(predictions == labels, tf.float64))
