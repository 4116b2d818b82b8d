"""Ghost batch norm against NumPy, float64, group by group."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch.workloads.ghost_batch_norm import GhostBatchNormalization

EPSILON = 1e-3  # Not the default, and large enough to matter.


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    # Every example has another level, so that groups differ.
    levels = rng.normal(size=(12, 1, 1, 3))
    return (levels + rng.normal(size=(12, 2, 2, 3))).astype("float32")


@pytest.fixture
def layer(inputs):
    layer = GhostBatchNormalization(
        virtual_batch_size=4,
        momentum=0.75,
        epsilon=EPSILON,
        gamma_initializer=keras.initializers.Constant(0.5),
    )
    layer.build(inputs.shape)
    layer.beta.assign([0.1, 0.2, 0.3])
    return layer


def normalized(x, mean, variance):
    beta = np.array([0.1, 0.2, 0.3])
    return 0.5 * (x - mean) / np.sqrt(variance + EPSILON) + beta


def statistics(inputs):
    """Returns the mean and the biased variance of each group of four."""
    groups = np.split(inputs.astype("float64"), 3)
    means = np.array([group.mean((0, 1, 2)) for group in groups])
    return groups, means, np.array([group.var((0, 1, 2)) for group in groups])


def test_each_group_is_normalised_by_itself(layer, inputs):
    expected = np.concatenate(
        [normalized(*each) for each in zip(*statistics(inputs))]
    )
    outputs = layer(inputs, training=True)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=3e-6)


def test_the_moving_statistics_take_one_step_to_the_mean_of_the_groups(
    layer, inputs
):
    _, means, variances = statistics(inputs)
    layer(inputs, training=True)
    np.testing.assert_allclose(
        layer.moving_mean.numpy(), 0.25 * means.mean(0), rtol=2e-6
    )
    np.testing.assert_allclose(
        layer.moving_variance.numpy(),
        0.75 + 0.25 * variances.mean(0),
        rtol=2e-6,
    )


def test_evaluation_uses_the_moving_statistics_and_leaves_them(layer, inputs):
    mean, variance = np.array([1.0, -1.0, 0.5]), np.array([2.0, 0.5, 1.5])
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    expected = normalized(inputs.astype("float64"), mean, variance)
    outputs = layer(inputs, training=False)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=3e-6)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), mean)


def test_one_group_is_keras_batch_norm(inputs):
    ghost = GhostBatchNormalization(12, momentum=0.75, epsilon=EPSILON)
    keras_layer = keras.layers.BatchNormalization(
        momentum=0.75, epsilon=EPSILON
    )
    outputs = [each(inputs, training=True) for each in (ghost, keras_layer)]
    np.testing.assert_allclose(*outputs, rtol=0, atol=3e-6)
    for name in ("moving_mean", "moving_variance"):
        both = [getattr(each, name).numpy() for each in (ghost, keras_layer)]
        np.testing.assert_allclose(*both, rtol=1e-5)


def test_gradients_flow_through_each_groups_statistics(layer, inputs):
    weights = np.random.default_rng(1).normal(size=inputs.shape)
    weights = weights.astype("float32")
    with tf.GradientTape() as tape:
        x = tf.constant(inputs)
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True) * weights)
    gradient = tape.gradient(loss, x).numpy()

    def loss_at(x):
        groups, means, variances = statistics(x)
        outputs = map(normalized, groups, means, variances)
        return np.sum(np.concatenate(list(outputs)) * weights)

    for place in ((0, 0, 0, 0), (5, 1, 0, 2), (11, 1, 1, 1)):
        step = np.zeros(inputs.shape)
        step[place] = 1e-5
        x = inputs.astype("float64")
        slope = (loss_at(x + step) - loss_at(x - step)) / 2e-5
        np.testing.assert_allclose(gradient[place], slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [10, 3])
def test_a_batch_that_the_groups_do_not_divide_is_refused(batch):
    layer = GhostBatchNormalization(virtual_batch_size=4)
    with pytest.raises(ValueError, match=f"Received: {batch}"):
        layer(np.ones((batch, 2, 2, 3), "float32"), training=True)
