"""Hyperparameters given as variables change without a new trace."""

import json

import numpy as np
import pytest
import tensorflow as tf

STEPS = 6
MOMENTUM = {
    "learning_rate": (0.1, 0.02),
    "momentum": (0.9, 0.5),
    "weight_decay": (0.01, 0.1),
}
ADAM = {
    "learning_rate": (0.1, 0.02),
    "beta_1": (0.9, 0.5),
    "beta_2": (0.99, 0.9),
    "epsilon": (1e-3, 1e-1),
    "weight_decay": (0.01, 0.1),
}
# By optimizer and argument: the value at first, and from half-way on.
VALUES = {
    "HeavyBall": MOMENTUM,
    "Nesterov": MOMENTUM,
    "LARS": {
        **MOMENTUM,
        "trust_coefficient": (0.1, 0.2),
        "epsilon": (1e-3, 1e-1),
    },
    "Adam": ADAM,
    "LAMB": {
        **ADAM,
        "zero_norm_ratio": (1.0, 0.5),
        "fallback_epsilon": (1e-2, 1.0),
    },
}
STARTS = {
    "kernel": np.linspace(-1, 1, 12).reshape(3, 4),
    "bias": np.linspace(1, 2, 3),
    "embeddings": np.zeros((2, 2)),
}


def variables_of(family):
    return [family.variable(start, key) for key, start in STARTS.items()]


def gradients():
    """Yields the gradients of each step.

    Those of the embeddings, which start at zero, begin half-way, so that
    there is a zero norm when `zero_norm_ratio` changes.
    """
    rng = np.random.default_rng(0)
    for step in range(STEPS):
        values = {key: rng.normal(size=STARTS[key].shape) for key in STARTS}
        if step < STEPS // 2:
            values["embeddings"][:] = 0
        yield [tf.constant(value, "float32") for value in values.values()]


def ends_with_floats(family, name):
    """Returns where an optimizer ends whose attributes are set half-way."""
    variables = variables_of(family)
    first = {key: values[0] for key, values in VALUES[name].items()}
    optimizer = family.optimizer(name, **first)
    for step, gradient in enumerate(gradients()):
        if step == STEPS // 2:
            for key, (_, later) in VALUES[name].items():
                setattr(optimizer, key, later)
        optimizer.apply_gradients(zip(gradient, variables))
    return [variable.numpy() for variable in variables]


def given_to(family, name):
    """Returns an optimizer's hyperparameters as variables."""
    return {
        key: family.variable(first, key)
        for key, (first, _) in VALUES[name].items()
    }


def assert_ends(family, name, step, given, variables):
    """Takes the steps, changes what was given; compares with floats."""
    for number, gradient in enumerate(gradients()):
        if number == STEPS // 2:
            for key, (_, later) in VALUES[name].items():
                given[key].assign(later)
        step(gradient)
    for variable, end in zip(variables, ends_with_floats(family, name)):
        np.testing.assert_allclose(variable.numpy(), end, rtol=1e-6, atol=1e-6)


def test_they_change_between_steps_without_a_new_trace(family, name):
    given, variables = given_to(family, name), variables_of(family)
    optimizer = family.optimizer(name, **given)
    optimizer.build(variables)
    traces = []

    @tf.function
    def step(gradients):
        traces.append(len(traces))
        optimizer.apply_gradients(zip(gradients, variables))

    assert_ends(family, name, step, given, variables)
    assert traces == [0]


@pytest.mark.parametrize("family", ["tf_keras"], indirect=True)
def test_they_change_in_the_steps_that_tf_keras_compiles(family, name):
    given, variables = given_to(family, name), variables_of(family)
    optimizer = family.optimizer(name, **given)
    optimizer.jit_compile = True  # Which tf_keras itself sets on a GPU only.

    def step(gradients):
        optimizer.apply_gradients(zip(gradients, variables))

    assert_ends(family, name, step, given, variables)


def test_the_config_holds_their_values_as_floats(family, name):
    optimizer = family.optimizer(name, **given_to(family, name))

    config = json.loads(json.dumps(optimizer.get_config()))

    for key, (first, _) in VALUES[name].items():
        assert type(config[key]) is float
        assert config[key] == np.float32(first)


@pytest.mark.parametrize("family", ["keras"], indirect=True)
def test_keras_3_takes_variables_of_tensorflow(family):
    rate, momentum = tf.Variable(0.5), tf.Variable(0.5)
    optimizer = family.largebatch.HeavyBall(rate, momentum)
    w = family.variable([0.0])

    for value in 0.5, 0.25:
        rate.assign(value)
        optimizer.apply_gradients([(np.ones(1, "float32"), w)])
        momentum.assign(0.0)

    assert w.numpy() == [-0.5 - 0.25]
    assert optimizer.get_config()["learning_rate"] == 0.25


def test_setting_the_rate_sets_the_variable_that_was_given(family):
    rate = family.variable(1.0, "rate")
    optimizer = family.largebatch.HeavyBall(rate)

    optimizer.learning_rate = 0.25

    assert rate.numpy() == 0.25
    assert optimizer.get_config()["learning_rate"] == 0.25


def test_a_model_that_is_compiled_follows_them(family, train):
    rate = family.variable(0.01, "rate")
    model = family.compiled(family.optimizer("LAMB", learning_rate=rate))

    train(model, epochs=1)
    weights = model.trainable_variables[0].numpy()
    rate.assign(0.0)
    train(model, epochs=1)

    np.testing.assert_array_equal(model.trainable_variables[0].numpy(), weights)
