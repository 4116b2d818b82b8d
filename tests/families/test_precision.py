"""Mixed precision, loss scaling and variables of other floating dtypes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

STARTS = {
    "kernel": np.linspace(-1, 1, 12).reshape(3, 4),
    "bias": np.linspace(1, 2, 3),
}


@pytest.fixture
def mixed(family):
    """A function that sets the family's policy for the rest of the test."""
    is_keras_3 = family.keras is keras
    set_policy = (
        keras.config.set_dtype_policy
        if is_keras_3
        else tf_keras.mixed_precision.set_global_policy
    )
    yield set_policy
    set_policy("float32")


def loss_scaled(optimizer):
    if isinstance(optimizer, keras.optimizers.Optimizer):
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return tf_keras.mixed_precision.LossScaleOptimizer(optimizer)


def dtypes_of(variables):
    return {tf.as_dtype(variable.dtype) for variable in variables}


def gradients_of(family, model, data):
    """Returns the gradients of the mean squared error, of model and data."""
    inputs, targets = data
    with tf.GradientTape() as tape:
        outputs = tf.cast(model(inputs, training=True), tf.float32)
        loss = tf.reduce_mean(tf.square(outputs - targets))
    variables = model.trainable_variables
    if family.keras is keras:
        variables = [variable.value for variable in variables]
    return tape.gradient(loss, variables)


def test_mixed_bfloat16_updates_float32_variables(family, name, mixed, data):
    mixed("mixed_bfloat16")
    model = family.model()
    optimizer, plain = family.optimizer(name), family.optimizer(name)
    copies = [
        family.variable(variable.numpy(), variable.name.split(":")[0])
        for variable in model.trainable_variables
    ]

    for _ in range(3):
        gradients = gradients_of(family, model, data)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        plain.apply_gradients(zip(gradients, copies))

    assert model.layers[0].compute_dtype == "bfloat16"
    assert dtypes_of(optimizer.variables[1:]) == {tf.float32}
    for variable, copy in zip(model.trainable_variables, copies):
        assert variable.numpy().dtype == np.float32
        np.testing.assert_array_equal(variable.numpy(), copy.numpy())


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_fit_in_mixed_precision_lowers_the_loss(family, policy, mixed, train):
    mixed(policy)
    model = family.compiled(family.optimizer("LARS"))
    is_scaled = hasattr(model.optimizer, "inner_optimizer")
    assert is_scaled == (policy == "mixed_float16")
    losses = train(model, epochs=4)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", ["HeavyBall", "LAMB"])
def test_loss_scaling_changes_nothing(family, name, train):
    plain = family.compiled(family.optimizer(name), run_eagerly=True)
    scaled = family.compiled(
        loss_scaled(family.optimizer(name)), run_eagerly=True
    )
    for model in plain, scaled:
        train(model, epochs=2)

    for weights, others in zip(plain.get_weights(), scaled.get_weights()):
        np.testing.assert_array_equal(others, weights)


def test_a_step_that_overflows_is_skipped(family, data):
    optimizer = family.optimizer("LAMB")
    model = family.compiled(loss_scaled(optimizer), run_eagerly=True)
    inputs, targets = data
    model.train_on_batch(inputs, targets)
    kept = [*model.trainable_variables, *sum(optimizer._slots, [])]
    values = [each.numpy() for each in kept]

    model.train_on_batch(inputs, np.full_like(targets, np.inf))

    for each, value in zip(kept, values):
        np.testing.assert_array_equal(each.numpy(), value)


def test_a_file_keeps_what_loss_scaling_wraps(family, train, state, tmp_path):
    model = family.compiled(
        loss_scaled(family.optimizer("LARS")), run_eagerly=True
    )
    train(model, epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = family.keras.models.load_model(tmp_path / "model.keras")
    for each in model, loaded:
        train(each, epochs=1)

    assert type(loaded.optimizer.inner_optimizer) is family.largebatch.LARS
    for value, other in zip(state(model), state(loaded)):
        np.testing.assert_array_equal(other, value)


def variables_of(family, dtype):
    return [
        family.keras.Variable(start, dtype=dtype, name=key)
        if family.keras is keras
        else tf.Variable(tf.cast(start, dtype), name=key)
        for key, start in STARTS.items()
    ]


def test_bfloat16_variables_are_updated_in_float32(family, name):
    short = variables_of(family, "bfloat16")
    long = variables_of(family, "float32")
    optimizer, plain = family.optimizer(name), family.optimizer(name)
    for variable in long:
        round_to_bfloat16(variable)
    rng = np.random.default_rng(0)

    for _ in range(4):
        gradients = [
            tf.cast(rng.normal(size=start.shape), "bfloat16")
            for start in STARTS.values()
        ]
        optimizer.apply_gradients(zip(gradients, short))
        gradients = [tf.cast(gradient, "float32") for gradient in gradients]
        plain.apply_gradients(zip(gradients, long))
        for variable in long:
            round_to_bfloat16(variable)

    assert dtypes_of(short) == {tf.bfloat16}
    for variable, expected in zip(short, long):
        np.testing.assert_array_equal(
            np.float32(variable.numpy()), expected.numpy()
        )


def round_to_bfloat16(variable):
    variable.assign(tf.cast(tf.cast(variable.numpy(), "bfloat16"), "float32"))


def test_float64_variables_are_updated_in_float64(family, name):
    wide = variables_of(family, "float64")
    optimizer = family.optimizer(name)
    rng = np.random.default_rng(0)

    for _ in range(2):
        gradients = [rng.normal(size=start.shape) for start in STARTS.values()]
        optimizer.apply_gradients(zip(map(tf.constant, gradients), wide))

    assert dtypes_of(sum(optimizer._slots, [])) == {tf.float64}
    for variable in wide:
        value = variable.numpy()
        assert (np.float32(value) != value).all()
