"""Ghost batch norm for Keras 3 on TensorFlow (Hoffer et al. 2017)."""

from typing import Any

import keras
import tensorflow as tf


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
        if not training:
            return self.normalize(
                inputs, self.moving_mean.value, self.moving_variance.value
            )[0]
        groups = tf.split(inputs, self.count_groups(inputs.shape[0]))
        outputs, means, variances = zip(*map(self.normalize, groups))
        # TensorFlow's kernel gives n / (n - 1) times the biased variance.
        n = tf.cast(tf.size(groups[0]) // groups[0].shape[-1], tf.float32)
        self.move(self.moving_mean, tf.add_n(means) / len(groups))
        self.move(
            self.moving_variance,
            tf.add_n(variances) / len(groups) * (n - 1) / n,
        )
        return tf.concat(outputs, axis=0)

    def count_groups(self, batch: int | None) -> int:
        """Returns how many groups a batch makes."""
        if not batch or batch % self.virtual_batch_size:
            raise ValueError(
                "the batch must be a fixed multiple of virtual_batch_size, "
                f"which is {self.virtual_batch_size}. Received: {batch}"
            )
        return batch // self.virtual_batch_size

    def normalize(
        self, inputs: tf.Tensor, mean: Any = None, variance: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the inputs normalised, and the statistics used.

        By the given mean and variance, or by the inputs' own.
        """
        own = mean is None
        empty = tf.zeros((0,))
        return tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=empty if own else mean,
            variance=empty if own else variance,
            epsilon=self.epsilon,
            is_training=own,
        )[:3]

    def move(self, average: keras.Variable, value: tf.Tensor) -> None:
        """Moves an average towards ``value``: rho old + (1 - rho) new."""
        average.assign(self.momentum * average + (1.0 - self.momentum) * value)
