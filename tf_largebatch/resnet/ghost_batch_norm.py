"""Ghost batch norm for tf_keras (Hoffer et al. 2017).

Published pipelines normalise by the examples of a core or of a few, 64 or so,
keep moving statistics there and average them over the cores before evaluation.
Moving averages being linear, that is one set of moving statistics which takes
one step, once a training step, to the mean over all groups of the global
batch; here it is computed so, however devices and micro-batches share that
batch. The variance that is averaged is the biased one within the groups, as
in MLPerf's JAX code; TensorFlow's own norm multiplies it by n / (n - 1).
"""

from typing import Any

import tensorflow as tf
import tf_keras

from tf_largebatch.resnet import groups


@tf_keras.saving.register_keras_serializable("tf_largebatch")
class GhostBatchNormalization(tf_keras.layers.Layer):
    """Batch norm with the statistics of groups of the batch.

    The batch is cut into groups of ``virtual_batch_size`` examples, each
    normalised by its own mean and (biased) variance, as on a pod whose every
    core holds that many.

    In training, each call moves the moving statistics towards the mean over
    the groups of all replicas. A step that consists of several calls, on
    micro-batches, moves them once if :func:`defer_updates` was called before
    and :func:`update_moving_statistics` is called at its end.

    Args:
        virtual_batch_size: examples a group; must divide the batch of a
            replica. Defaults to 64, the paper's (footnote 11).
        momentum: rho of the moving averages. Defaults to 0.9.
        epsilon: added to the variance. Defaults to 1e-5.
        gamma_initializer: defaults to ones; the last norm of a residual
            block starts at gamma_0.

    Shapes: ``(batch, height, width, channels)`` in and out, of the compute
    dtype. Parameters and statistics are float32 whatever that is.

    Raises:
        ValueError: in training, ``virtual_batch_size`` does not divide the
            batch.
    """

    gamma: tf.Variable
    beta: tf.Variable
    moving_mean: tf.Variable
    moving_variance: tf.Variable
    totals: Any = None  # A tf.Variable while updates are deferred.

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
        self.gamma_initializer = tf_keras.initializers.get(gamma_initializer)

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates gamma, beta and the moving statistics."""
        channels = input_shape[-1]
        self.gamma = self._add("gamma", channels, self.gamma_initializer)
        self.beta = self._add("beta", channels, "zeros")
        # As tf_keras's own norm has them. A copy for each replica, and what
        # is saved is their mean; they are equal here.
        moving: dict[str, Any] = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
            "aggregation": tf.VariableAggregation.MEAN,
        }
        self.moving_mean = self._add("moving_mean", channels, "zeros", **moving)
        self.moving_variance = self._add(
            "moving_variance", channels, "ones", **moving
        )
        super().build(input_shape)

    def _add(
        self, name: str, channels: int, initializer: Any, **kwargs: Any
    ) -> tf.Variable:
        """Adds a weight that is float32 in every mixed precision."""
        return self.add_weight(
            name,
            (channels,),
            tf.float32,
            initializer,
            experimental_autocast=False,
            **kwargs,
        )

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Normalises; in training by group, else by the moving statistics."""
        if not training:
            return groups.normalize(
                inputs,
                self.gamma,
                self.beta,
                self.moving_mean,
                self.moving_variance,
                self.epsilon,
            )
        outputs, means, variances = groups.normalize_groups(
            inputs,
            self.gamma,
            self.beta,
            self.virtual_batch_size,
            self.epsilon,
        )
        self.take_note(means, variances)
        return outputs

    def take_note(self, means: tf.Tensor, variances: tf.Tensor) -> None:
        """Adds up the statistics of groups for the end of the step.

        Which is now, unless updates are deferred.
        """
        count = tf.cast(tf.shape(means)[:1], tf.float32)
        sums = [tf.reduce_sum(each, 0) for each in (means, variances)]
        totals = tf.concat([*sums, count], 0)
        if self.totals is None:
            self.move(sum_over_replicas(totals))
        else:
            self.totals.assign_add(totals)

    def move(self, totals: tf.Tensor) -> None:
        """Moves the moving statistics: rho old + (1 - rho) new.

        Args:
            totals: the sum of the groups' means, that of their variances and
                the number of groups, of shape (2 * channels + 1,).
        """
        mean, variance = tf.split(totals[:-1] / totals[-1], 2)
        for moving, value in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            moving.assign(self.momentum * moving + (1 - self.momentum) * value)

    def defer_updates(self, deferred: bool = True) -> None:
        """See the function :func:`defer_updates`."""
        if deferred is (self.totals is not None):
            return
        totals = None
        if deferred:
            totals = tf.Variable(
                tf.zeros((2 * self.gamma.shape[0] + 1,)),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
                name=f"{self.name}/totals",
            )
        # Past Keras, which would count and save it: it is zero between steps.
        object.__setattr__(self, "totals", totals)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "virtual_batch_size": self.virtual_batch_size,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "gamma_initializer": tf_keras.initializers.serialize(
                self.gamma_initializer
            ),
        }


def defer_updates(model: tf_keras.Model, deferred: bool = True) -> None:
    """Makes the moving statistics wait for :func:`update_moving_statistics`.

    Args:
        model: all of its ghost batch norms are meant.
        deferred: False returns to an update in each call, as is needed before
            a deferring model is saved as a SavedModel.
    """
    with model.distribute_strategy.scope():
        for layer in ghost_batch_norms(model):
            layer.defer_updates(deferred)


def update_moving_statistics(model: tf_keras.Model) -> None:
    """Moves the moving statistics once, by all calls since the last time.

    To be called in replica context, at the end of a step, on a model with
    deferred updates. Replicas are summed over in one operation.

    Raises:
        ValueError: the updates are not deferred.
    """
    layers = ghost_batch_norms(model)
    if not layers:
        return  # Another package's network; a sum needs something to add.
    if any(layer.totals is None for layer in layers):
        raise ValueError("call `defer_updates` before the first step")
    totals = sum_over_replicas([layer.totals.read_value() for layer in layers])
    for layer, total in zip(layers, totals):
        layer.move(total)
    forget_totals(model)


def forget_totals(model: tf_keras.Model) -> None:
    """Has a model with deferred updates begin to gather anew.

    To be called in replica context.
    """
    for layer in ghost_batch_norms(model):
        layer.totals.assign(tf.zeros(layer.totals.shape))


def ghost_batch_norms(model: tf_keras.Model) -> list[GhostBatchNormalization]:
    """Returns the ghost batch norms of a model and of models within it."""
    return [
        layer
        for layer in model.submodules
        if isinstance(layer, GhostBatchNormalization)
    ]


def sum_over_replicas(values: Any) -> Any:
    """Returns the sum over the replicas of a tensor or of each of a list."""
    context = tf.distribute.get_replica_context()
    if context is None:  # Where Keras traces a model to save it.
        return values
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values)
