"""A small ResNet v1.5 on scikit-learn's scanned digits: no download."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn import datasets, model_selection

from tf_largebatch import workloads
from tf_largebatch.workloads.ghost_batch_norm import GhostBatchNormalization

Split = tuple[np.ndarray, np.ndarray]


class Task(workloads.Workload):
    """Tells the ten digits apart, judged by accuracy.

    Its settings are ``gamma_0``, the initial gamma of the last norm of each
    residual block, and ``label_smoothing``, tau. Examples are images and
    labels.
    """

    family = "keras"
    initial_settings = ("gamma_0",)
    loss_settings = ("label_smoothing",)

    def data(self) -> dict[str, Split]:
        """Returns the splits of the sizes that are configured."""
        return data(self.config["splits"])

    def build_model(
        self, seed: int, settings: workloads.Settings
    ) -> keras.Model:
        """Returns a new model."""
        size = self.config["virtual_batch_size"]
        return build_model(size, settings["gamma_0"], seed)

    def loss(
        self, model: keras.Model, examples: Any, settings: workloads.Settings
    ) -> tf.Tensor:
        """Returns the mean cross entropy of a batch in training."""
        images, labels = examples
        logits = model(images, training=True)
        return cross_entropy(labels, logits, settings["label_smoothing"])

    def measure(
        self, model: keras.Model, examples: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the accuracy and the loss without label smoothing."""
        images, labels = examples
        logits = model(images, training=False)
        return accuracy(labels, logits), cross_entropy(labels, logits, 0.0)


def cross_entropy(labels: Any, logits: Any, label_smoothing: Any) -> tf.Tensor:
    """Returns the mean cross entropy with (1 - tau) onehot + tau / k."""
    classes = logits.shape[-1]
    smoothed = (1.0 - label_smoothing) * tf.one_hot(labels, classes)
    smoothed += label_smoothing / classes
    return tf.reduce_mean(
        tf.nn.softmax_cross_entropy_with_logits(smoothed, logits)
    )


def accuracy(labels: Any, logits: Any) -> tf.Tensor:
    """Returns the part of the examples that is classified rightly."""
    predictions = tf.argmax(logits, axis=-1, output_type=labels.dtype)
    return tf.reduce_mean(tf.cast(predictions == labels, tf.float64))


def data(sizes: dict[str, int]) -> dict[str, Split]:
    """Returns the splits by name, stratified and always the same.

    Args:
        sizes: examples of ``train``, ``validation`` and ``test``, in this
            order; 1,797 in all.

    Returns:
        For each name the images, float32 of shape (examples, 8, 8, 1), scaled
        by the mean and standard deviation of the training images, and the
        labels, int32 of shape (examples,), 0 to 9.
    """
    digits = datasets.load_digits()
    images = digits.images[..., np.newaxis].astype(np.float32)
    labels = digits.target.astype(np.int32)
    splits, rest = {}, np.arange(len(labels))
    for name, size in sizes.items():
        if size < len(rest):
            chosen, rest = model_selection.train_test_split(
                rest, train_size=size, stratify=labels[rest], random_state=0
            )
        else:
            chosen = rest
        splits[name] = (images[chosen], labels[chosen])
    train = splits["train"][0]
    return {
        name: ((x - train.mean()) / train.std(), y)
        for name, (x, y) in splits.items()
    }


def build_model(
    virtual_batch_size: int, gamma_0: float = 1.0, seed: int = 0
) -> keras.Model:
    """Returns the model: (batch, 8, 8, 1) to logits (batch, 10).

    A ResNet v1.5 in small: bottleneck blocks with the stride on the 3x3
    convolution, no biases in convolutions, ghost batch norm, the last norm of
    each block starting at ``gamma_0``, MLPerf's initial values.

    Args:
        virtual_batch_size: examples a group of ghost batch norm.
        gamma_0: initial gamma of the last norm of each block.
        seed: of the initial weights.
    """
    layers = Layers(virtual_batch_size, gamma_0, seed)
    images = keras.Input((8, 8, 1))
    x = layers.convolution(images, 16, 3, name="stem")
    x = layers.norm(x, relu=True, name="stem")
    x = layers.block(x, 8, stride=1, name="block1")
    x = layers.block(x, 16, stride=2, name="block2")
    x = layers.block(x, 16, stride=1, name="block3")
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.head(x, 10))


class Layers:
    """Makes the layers of one model; see :func:`build_model`."""

    def __init__(self, virtual_batch_size: int, gamma_0: float, seed: int):
        self.virtual_batch_size = virtual_batch_size
        self.gamma_0 = gamma_0
        # One generator for all layers, so that each draws other numbers.
        self.seed = keras.random.SeedGenerator(seed)

    def convolution(
        self, x: Any, filters: int, size: int, stride: int = 1, *, name: str
    ) -> Any:
        """Applies a convolution without bias."""
        return keras.layers.Conv2D(
            filters,
            size,
            stride,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(
                1.0, "fan_in", "truncated_normal", seed=self.seed
            ),
            name=f"{name}_conv",
        )(x)

    def norm(
        self, x: Any, gamma: float = 1.0, relu: bool = False, *, name: str
    ) -> Any:
        """Applies ghost batch norm whose gamma starts at ``gamma``."""
        x = GhostBatchNormalization(
            self.virtual_batch_size,
            gamma_initializer=keras.initializers.Constant(gamma),
            name=f"{name}_norm",
        )(x)
        return keras.layers.ReLU()(x) if relu else x

    def block(self, x: Any, filters: int, stride: int, name: str) -> Any:
        """Applies a bottleneck block, v1.5: the stride is on the 3x3."""
        shortcut = x
        if x.shape[-1] != 4 * filters:
            name_0 = f"{name}_shortcut"
            shortcut = self.convolution(x, 4 * filters, 1, stride, name=name_0)
            shortcut = self.norm(shortcut, name=name_0)
        for number, size, step in ((1, 1, 1), (2, 3, stride)):
            name_n = f"{name}_{number}"
            x = self.convolution(x, filters, size, step, name=name_n)
            x = self.norm(x, relu=True, name=name_n)
        x = self.convolution(x, 4 * filters, 1, name=f"{name}_3")
        x = self.norm(x, self.gamma_0, name=f"{name}_3")
        return keras.layers.ReLU()(keras.layers.add([x, shortcut]))

    def head(self, x: Any, classes: int) -> Any:
        """Applies the classifier: kernel N(0, 0.01^2), bias 0."""
        return keras.layers.Dense(
            classes,
            kernel_initializer=keras.initializers.RandomNormal(
                stddev=0.01, seed=self.seed
            ),
            name="head",
        )(x)
