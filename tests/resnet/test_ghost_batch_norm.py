"""Ghost batch norm against NumPy, float64, group by group."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_largebatch.resnet import ghost_batch_norm
from tf_largebatch.resnet.ghost_batch_norm import GhostBatchNormalization

EPSILON = 1e-3  # Not the default, and large enough to matter.
GROUP = 4
GAMMA, BETA = np.array([0.5, 2.0, -1.0]), np.array([0.1, 0.2, 0.3])
AXES = (0, 1, 2)


@dataclasses.dataclass
class Group:
    """The oracle: batch norm of one group of examples, and its gradients."""

    images: np.ndarray

    def __post_init__(self):
        self.images = np.asarray(self.images, "float64")
        self.mean = self.images.mean(AXES)
        self.variance = self.images.var(AXES)
        self.deviation = np.sqrt(self.variance + EPSILON)
        self.normalized = (self.images - self.mean) / self.deviation
        self.outputs = GAMMA * self.normalized + BETA

    def gradients(self, upstream):
        """Returns those of sum(outputs * upstream) by images, gamma, beta."""
        along = (upstream * self.normalized).mean(AXES)
        inner = upstream - upstream.mean(AXES) - self.normalized * along
        return (
            GAMMA / self.deviation * inner,
            (upstream * self.normalized).sum(AXES),
            upstream.sum(AXES),
        )


def groups_of(images):
    return [Group(part) for part in np.split(images, len(images) // GROUP)]


def moved(steps, rho=0.75):
    """Returns the moving statistics after steps of some groups each."""
    mean, variance = np.zeros(3), np.ones(3)
    for groups in steps:
        new = np.mean([group.mean for group in groups], 0)
        mean = rho * mean + (1 - rho) * new
        new = np.mean([group.variance for group in groups], 0)
        variance = rho * variance + (1 - rho) * new
    return mean, variance


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    # Every example has a level of its own, so that groups differ.
    levels = rng.normal(size=(12, 1, 1, 3))
    return (levels + rng.normal(size=(12, 2, 2, 3))).astype("float32")


def ghost(virtual_batch_size=GROUP, epsilon=EPSILON, **arguments):
    layer = GhostBatchNormalization(
        virtual_batch_size, momentum=0.75, epsilon=epsilon, **arguments
    )
    layer.build((None, None, None, 3))
    layer.gamma.assign(GAMMA)
    layer.beta.assign(BETA)
    return layer


@pytest.fixture
def layer():
    return ghost()


@pytest.fixture
def model(layer):
    """A model that holds the layer within another model."""
    outer, inner = tf_keras.Input((2, 2, 3)), tf_keras.Input((2, 2, 3))
    return tf_keras.Model(outer, tf_keras.Model(inner, layer(inner))(outer))


def assert_moved(layer, steps):
    mean, variance = moved(steps)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=0, atol=3e-7)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-6)


def backward(layer, images, upstream):
    """Returns the outputs of training and all gradients."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images, training=True)
        loss = tf.reduce_sum(outputs * upstream)
    return outputs, *tape.gradient(loss, [images, layer.gamma, layer.beta])


WAYS = {
    "eager": lambda function, shape: function,
    "graph": lambda function, shape: tf.function(function),
    "xla": lambda function, shape: tf.function(function, jit_compile=True),
    "batch unknown": lambda function, shape: tf.function(
        function, input_signature=[tf.TensorSpec((None, *shape[1:]))] * 2
    ),
    "shape unknown": lambda function, shape: tf.function(
        function, input_signature=[tf.TensorSpec((None, None, None, 3))] * 2
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_groups_are_normalised_by_themselves_and_so_are_the_gradients(
    layer, images, way
):
    upstream = np.random.default_rng(1).normal(size=images.shape)
    upstream = upstream.astype("float32")
    parts = np.split(upstream.astype("float64"), 3)
    groups = groups_of(images)
    each = [group.gradients(part) for group, part in zip(groups, parts)]
    by_images, by_gamma, by_beta = zip(*each)

    run = WAYS[way](lambda x, u: backward(layer, x, u), images.shape)
    found = run(tf.constant(images), tf.constant(upstream))

    for value, expected in zip(
        found,
        (
            np.concatenate([group.outputs for group in groups]),
            np.concatenate(by_images),
            sum(by_gamma),
            sum(by_beta),
        ),
    ):
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5)
    assert_moved(layer, [groups])


def test_one_group_is_tf_kerass_batch_norm(images):
    layers = [
        ghost(12),
        tf_keras.layers.BatchNormalization(momentum=0.75, epsilon=EPSILON),
    ]
    layers[1].build(images.shape)
    layers[1].set_weights(layers[0].get_weights())
    upstream = np.random.default_rng(1).normal(size=images.shape)
    found, expected = (
        backward(layer, tf.constant(images), upstream.astype("float32"))
        for layer in layers
    )
    for each in zip(found, expected):
        np.testing.assert_allclose(*each, rtol=0, atol=1e-5)
    means, variances = zip(*(layer.get_weights()[2:] for layer in layers))
    np.testing.assert_allclose(*means, rtol=0, atol=3e-7)
    # Where rho is 0.75, a quarter is new; tf_keras's is n / (n - 1) times it.
    n = images.size // 3
    new, kerass = variances - np.float32(0.75)
    np.testing.assert_allclose(new * n / (n - 1), kerass, rtol=3e-6)


def test_evaluation_uses_the_moving_statistics_and_leaves_them(layer, images):
    mean, variance = np.array([1.0, -1.0, 0.5]), np.array([2.0, 0.5, 1.5])
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    expected = GAMMA * (images - mean) / np.sqrt(variance + EPSILON) + BETA
    for outputs in (layer(images), layer(images, training=False)):
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=3e-6)
    np.testing.assert_array_equal(layer.moving_mean, mean)
    np.testing.assert_array_equal(layer.moving_variance, variance)


@pytest.mark.parametrize("training", [True, False])
def test_epsilon_is_1e_5_and_not_what_tensorflow_makes_of_it(training):
    """TensorFlow's functions raise it to 1.001e-5 where it is smaller."""
    layer = ghost(1, epsilon=1e-5)
    layer.moving_variance.assign(np.zeros(3))
    outputs = layer(np.full((1, 1, 1, 3), 0.5, "float32"), training=False)
    expected = GAMMA * 0.5 / np.sqrt(1e-5) + BETA
    if training:
        images = np.array([1e-4, -1e-4], "float32").reshape(1, 2, 1, 1)
        outputs = layer(np.repeat(images, 3, -1), training=True)[0, 0, 0]
        expected = GAMMA * 1e-4 / np.sqrt(1e-8 + 1e-5) + BETA
    np.testing.assert_allclose(np.ravel(outputs), expected, rtol=3e-6)


@pytest.mark.parametrize("sizes", [(12,), (4, 4, 4), (8, 4), (4, 8)])
def test_deferred_updates_move_once_a_step_by_all_its_groups(
    model, layer, images, sizes
):
    """Micro-batches need not have the same number of groups."""
    ghost_batch_norm.defer_updates(model)
    steps = [images, images[::-1] * 1.5]
    for step in steps:
        before = layer.get_weights()
        for part in np.split(step, np.cumsum(sizes)[:-1]):
            model(part, training=True)
        for value, old in zip(layer.get_weights(), before):
            np.testing.assert_array_equal(value, old)
        ghost_batch_norm.update_moving_statistics(model)
    assert_moved(layer, [groups_of(step) for step in steps])


def test_evaluation_between_micro_batches_changes_nothing(model, layer, images):
    ghost_batch_norm.defer_updates(model)
    model(images[:8], training=True)
    model(images[:4] * 3, training=False)
    model(images[8:], training=True)
    ghost_batch_norm.update_moving_statistics(model)
    assert_moved(layer, [groups_of(images)])


def test_deferring_again_forgets_nothing(model, layer, images):
    ghost_batch_norm.defer_updates(model)
    model(images[:8], training=True)
    ghost_batch_norm.defer_updates(model)
    model(images[8:], training=True)
    ghost_batch_norm.update_moving_statistics(model)
    assert_moved(layer, [groups_of(images)])


def test_without_deferral_every_call_moves(model, layer, images):
    ghost_batch_norm.defer_updates(model)
    ghost_batch_norm.defer_updates(model, False)
    for part in (images[:8], images[8:]):
        model(part, training=True)
    assert_moved(layer, [groups_of(images[:8]), groups_of(images[8:])])


def test_an_update_that_is_not_deferred_is_refused(model, images):
    model(images, training=True)
    with pytest.raises(ValueError, match="defer_updates"):
        ghost_batch_norm.update_moving_statistics(model)


def test_what_deferral_adds_up_is_no_weight_and_not_saved(model, tmp_path):
    def saved():
        path = tf.train.Checkpoint(model=model).save(str(tmp_path / "saved"))
        return dict(tf.train.list_variables(path))

    before = saved()
    ghost_batch_norm.defer_updates(model)
    assert saved() == before
    assert len(model.weights) == 4
    assert model.count_params() == 12


@pytest.mark.slow
@pytest.mark.parametrize("way", ["1 x 3", "2 x 0", "2 x 3"])
def test_replicas_and_micro_batches_move_the_same_statistics(way, arrays):
    """Of so many of each; 0 micro-batches means without deferral."""
    images = arrays["images"]
    steps = [groups_of(step) for step in np.split(images, 2)]
    mean, variance = moved(steps)
    found = {
        name: arrays[f"{way} {name}"]
        for name in ("moving_mean", "moving_variance", "outputs", "saved")
    }
    np.testing.assert_allclose(found["moving_mean"], mean, rtol=0, atol=3e-7)
    np.testing.assert_allclose(found["moving_variance"], variance, rtol=1e-6)
    # Every replica evaluates with the same, and so does what is exported.
    expected = (images[:1] - mean) / np.sqrt(variance + 1e-5)
    assert len(found["outputs"]) == int(way[0])
    for outputs in (*found["outputs"], found["saved"]):
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=3e-6)
    if "x 0" not in way:  # Every replica had totals, which are zero again.
        totals = np.zeros((int(way[0]), 2 * 3 + 1))
        np.testing.assert_array_equal(arrays[f"{way} totals"], totals)


@pytest.fixture(scope="module")
def arrays(run_script):
    return run_script("resnet/replicas.py")


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_bfloat16_images_keep_float32_statistics(images, policy, deferred):
    layer = ghost(dtype=policy)
    model = tf_keras.Sequential([layer])
    model.build(images.shape)
    ghost_batch_norm.defer_updates(model, deferred)
    images = tf.cast(images + 8, tf.bfloat16)
    outputs = model(images, training=True)
    if deferred:
        ghost_batch_norm.update_moving_statistics(model)

    assert outputs.dtype == tf.bfloat16
    assert {weight.dtype for weight in layer.weights} == {tf.float32}
    groups = groups_of(images.numpy())
    mean, variance = moved([groups])
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-6)
    # Around a mean of 8, float32 squares are wrong by 4e-6.
    np.testing.assert_allclose(layer.moving_variance, variance, atol=1e-5)
    expected = np.concatenate([group.outputs for group in groups])
    # Two of bfloat16's steps, of 2^-8 each.
    np.testing.assert_allclose(
        tf.cast(outputs, tf.float32), expected, rtol=2**-7, atol=2**-7
    )


def test_bfloat16_evaluation_does_not_round_the_statistics(images):
    layer = ghost(dtype="mixed_bfloat16")
    layer.moving_mean.assign([1.001, 2.001, 3.001])
    image = tf.ones((1, 1, 1, 3), tf.bfloat16)
    expected = GAMMA * [-0.001, -1.001, -2.001] / np.sqrt(1 + EPSILON) + BETA
    outputs = tf.cast(layer(image), tf.float32)
    np.testing.assert_allclose(np.ravel(outputs), expected, rtol=2**-8)


def test_gradients_of_parameters_are_float32_under_bfloat16(images):
    layer = ghost(dtype="mixed_bfloat16")
    images = tf.cast(images, tf.bfloat16)
    upstream = tf.ones_like(images)
    _, by_images, by_gamma, by_beta = backward(layer, images, upstream)
    assert by_images.dtype == tf.bfloat16
    assert by_gamma.dtype == by_beta.dtype == tf.float32


@pytest.mark.parametrize("batch", [10, 3])
def test_a_batch_that_the_groups_do_not_divide_is_refused(layer, batch):
    images = np.ones((batch, 2, 2, 3), "float32")
    with pytest.raises(ValueError, match=f"is 4. Received: {batch}"):
        layer(images, training=True)
    layer(images, training=False)


def test_a_batch_known_at_run_time_is_refused_there(layer):
    train = tf.function(
        lambda images: layer(images, training=True),
        input_signature=[tf.TensorSpec((None, 2, 2, 3))],
    )
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="virtual_batch_size, which is 4"
    ):
        train(np.ones((10, 2, 2, 3), "float32"))
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(3))


def test_fit_moves_the_statistics_once_a_batch(model, layer, images):
    model.compile("sgd", "mse")
    model.fit(images, images, batch_size=4, shuffle=False, verbose=0)
    assert_moved(layer, [[group] for group in groups_of(images)])


def test_saves_and_loads(images, tmp_path):
    initializer = tf_keras.initializers.Constant(0.25)
    model = tf_keras.Sequential([ghost(gamma_initializer=initializer)])
    model(images, training=True)
    model.save(tmp_path / "model.keras")
    loaded = tf_keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))
    config = loaded.layers[0].get_config()
    assert config == model.layers[0].get_config()
    again = GhostBatchNormalization.from_config(config)
    again.build(images.shape)
    np.testing.assert_array_equal(again.gamma, [0.25] * 3)
    assert (again.virtual_batch_size, again.momentum) == (GROUP, 0.75)
    assert again.epsilon == EPSILON
