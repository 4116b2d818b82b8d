"""Ghost batch norm for Keras 3 on TensorFlow (Hoffer et al. 2017)."""

from typing import Any

import keras
import tensorflow as tf

from tf_largebatch.resnet import groups


class GhostBatchNormalization(keras.layers.Layer):
    """Batch norm with the statistics of groups of the batch.

    The batch is cut into groups of ``virtual_batch_size`` examples, each
    normalised by its own mean and (biased) variance, as on a pod whose every
    core holds that many. The moving statistics take one step a call, towards
    the mean over the groups.

    Args:
        virtual_batch_size: examples a group; must divide the batch.
            Defaults to 64, the paper's (footnote 11).
        momentum: rho of the moving averages. Defaults to 0.9.
        epsilon: added to the variance. Defaults to 1e-5.
        gamma_initializer: defaults to ones; the last norm of a residual
            block starts at gamma_0.

    Shapes: ``(batch, height, width, channels)`` in and out, float32.

    Raises:
        ValueError: in training, ``virtual_batch_size`` does not divide the
            batch.
    """

    gamma: keras.Variable
    beta: keras.Variable
    moving_mean: keras.Variable
    moving_variance: keras.Variable

    def __init__(
        self,
        virtual_batch_size: int = 64,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        gamma_initializer: Any = "ones",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.virtual_batch_size = virtual_batch_size
        self.momentum = momentum
        self.epsilon = epsilon
        self.gamma_initializer = keras.initializers.get(gamma_initializer)

    def build(self, input_shape: tuple) -> None:
        """Creates gamma, beta and the moving statistics."""
        for name, initializer, trainable in (
            ("gamma", self.gamma_initializer, True),
            ("beta", "zeros", True),
            ("moving_mean", "zeros", False),
            ("moving_variance", "ones", False),
        ):
            weight = self.add_weight(
                name=name,
                shape=(input_shape[-1],),
                # Keras's default is no constant, not even for a beta.
                initializer=initializer,
                trainable=trainable,
            )
            setattr(self, name, weight)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Normalises; in training by group, else by the moving statistics."""
        gamma, beta = self.gamma.value, self.beta.value
        if not training:
            moving = self.moving_mean.value, self.moving_variance.value
            return groups.normalize(inputs, gamma, beta, *moving, self.epsilon)
        outputs, means, variances = groups.normalize_groups(
            inputs, gamma, beta, self.virtual_batch_size, self.epsilon
        )
        self.move(self.moving_mean, tf.reduce_mean(means, 0))
        self.move(self.moving_variance, tf.reduce_mean(variances, 0))
        return outputs

    def move(self, average: keras.Variable, value: tf.Tensor) -> None:
        """Moves an average towards ``value``: rho old + (1 - rho) new."""
        average.assign(self.momentum * average + (1.0 - self.momentum) * value)
