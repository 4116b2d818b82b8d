"""Gradients that are sparse, missing, clipped, accumulated or averaged."""

import numpy as np
import pytest
import tensorflow as tf

STARTS = {
    "embeddings": np.linspace(-1, 1, 24).reshape(6, 4),
    "kernel": np.linspace(1, 2, 6).reshape(2, 3),
    "bias": np.zeros(3),
}
CLIPPING = [{"clipnorm": 1.5}, {"clipvalue": 0.5}, {"global_clipnorm": 1.5}]


def variables_of(family):
    return [family.variable(start, key) for key, start in STARTS.items()]


def gradients_of(rng):
    """Returns gradients in eighths, whose sums have no rounding errors."""
    return [
        (rng.integers(-16, 17, start.shape) / 8).astype("float32")
        for start in STARTS.values()
    ]


def values_of(optimizer, variables):
    """Returns parameters, then slots."""
    return [each.numpy() for each in (*variables, *optimizer.variables)]


def assert_same(values, others):
    assert len(values) == len(others)
    for value, other in zip(values, others):
        np.testing.assert_array_equal(value, other)


def scheduled(family, name, **arguments):
    """Returns an optimizer whose rate changes at every step."""
    schedule = family.largebatch.PiecewisePolynomial(0.25, 10, 2.5)
    return family.optimizer(name, learning_rate=schedule, **arguments)


@pytest.mark.parametrize("clipping", [{}, *CLIPPING], ids=str)
def test_sparse_gradients_equal_their_dense_equals(family, name, clipping):
    sparse, dense = variables_of(family), variables_of(family)
    with_sparse = family.optimizer(name, **clipping)
    with_dense = family.optimizer(name, **clipping)
    rng = np.random.default_rng(0)

    for _ in range(3):
        gradients = gradients_of(rng)
        rows = rng.integers(-16, 17, (4, 4)).astype("float32") / 8
        indices = np.array([1, 3, 1, 1])
        gradients[0][:] = 0
        np.add.at(gradients[0], indices, rows)
        with_dense.apply_gradients(zip(map(tf.constant, gradients), dense))
        gradients[0] = tf.IndexedSlices(
            tf.constant(rows), tf.constant(indices), tf.constant([6, 4])
        )
        with_sparse.apply_gradients(zip(gradients, sparse))

    assert_same(values_of(with_sparse, sparse), values_of(with_dense, dense))


@pytest.mark.parametrize("clipping", CLIPPING, ids=str)
def test_gradients_are_clipped_before_the_rule(family, name, clipping):
    clipped, given_clipped = variables_of(family), variables_of(family)
    with_argument = scheduled(family, name, **clipping)
    without = scheduled(family, name)
    rng = np.random.default_rng(0)

    for _ in range(3):
        gradients = gradients_of(rng)
        with_argument.apply_gradients(zip(map(tf.constant, gradients), clipped))
        gradients = map(tf.constant, clip(gradients, **clipping))
        without.apply_gradients(zip(gradients, given_clipped))

    for start, *ends in zip(STARTS.values(), clipped, given_clipped):
        value, expected = (variable.numpy() for variable in ends)
        distance = np.linalg.norm(expected - start)
        assert np.linalg.norm(value - expected) <= 3e-6 * distance


def clip(gradients, clipnorm=None, clipvalue=None, global_clipnorm=None):
    """Returns clipped gradients, computed in float64."""
    if clipvalue:
        return [np.clip(g, -clipvalue, clipvalue) for g in gradients]
    norms = [np.linalg.norm(np.float64(g)) for g in gradients]
    if global_clipnorm:
        norms = [np.linalg.norm(norms)] * len(norms)
    limit = clipnorm or global_clipnorm
    assert max(norms) > limit
    factors = [min(1, limit / norm) for norm in norms]
    return [np.float32(g * factor) for g, factor in zip(gradients, factors)]


@pytest.fixture
def warned(recwarn, caplog):
    """A function that returns the warnings, which tf_keras only logs."""
    caplog.set_level("WARNING", logger="tensorflow")

    def messages():
        logged = [record.getMessage() for record in caplog.records]
        return "\n".join(
            [*(str(warning.message) for warning in recwarn), *logged]
        )

    return messages


def test_a_variable_without_a_gradient_stays_as_it_is(family, name, warned):
    optimizer, variables = scheduled(family, name), variables_of(family)
    other, others = scheduled(family, name), variables_of(family)
    rng = np.random.default_rng(0)
    gradients = list(map(tf.constant, gradients_of(rng)))
    optimizer.apply_gradients(zip(gradients, variables))
    other.apply_gradients(zip(gradients, others))
    before = of_one_variable(optimizer, variables, 0)

    gradients = list(map(tf.constant, gradients_of(rng)))
    other.apply_gradients(zip(gradients, others))
    assert "Gradients do not exist" not in warned()
    optimizer.apply_gradients(zip([None, *gradients[1:]], variables))

    assert "Gradients do not exist for variables ['embeddings" in warned()
    assert_same(of_one_variable(optimizer, variables, 0), before)
    for index in 1, 2:
        assert_same(
            of_one_variable(optimizer, variables, index),
            of_one_variable(other, others, index),
        )
    assert int(optimizer.iterations) == 2


def of_one_variable(optimizer, variables, index):
    """Returns the values of a parameter and of its slots."""
    slots = [slots[index] for slots in optimizer._slots]
    return [each.numpy() for each in (variables[index], *slots)]


def test_no_gradient_at_all_is_an_error(family, name):
    optimizer, variables = family.optimizer(name), variables_of(family)
    with pytest.raises(ValueError, match="No gradients provided for any"):
        optimizer.apply_gradients((None, each) for each in variables)
    for variable, start in zip(variables, STARTS.values()):
        np.testing.assert_array_equal(variable.numpy(), np.float32(start))


@pytest.mark.parametrize("family", ["keras"], indirect=True)
@pytest.mark.parametrize("clipping", [{}, {"global_clipnorm": 1.5}], ids=str)
def test_accumulated_gradients_equal_one_step_of_their_mean(
    family, name, clipping
):
    micro_batches = 4  # A power of 2, so that the mean is exact.
    accumulating = scheduled(
        family, name, gradient_accumulation_steps=micro_batches, **clipping
    )
    plain = scheduled(family, name, **clipping)
    accumulated, taken = variables_of(family), variables_of(family)
    rng = np.random.default_rng(0)

    for step in range(1, 6):
        before = [each.numpy() for each in accumulated]
        gradients = [gradients_of(rng) for _ in range(micro_batches)]
        for number, micro in enumerate(gradients):
            assert_same([each.numpy() for each in accumulated], before)
            assert int(accumulating.iterations) == step - 1, number
            accumulating.apply_gradients(
                zip(map(tf.constant, micro), accumulated)
            )
        means = [sum(each) / micro_batches for each in zip(*gradients)]
        plain.apply_gradients(zip(map(tf.constant, means), taken))

        assert int(accumulating.iterations) == step
        assert_same(
            [each.numpy() for each in accumulated],
            [each.numpy() for each in taken],
        )


def test_ema_averages_the_variables_and_ends_in_the_average(family, name):
    optimizer = scheduled(family, name, use_ema=True, ema_momentum=0.75)
    plain = scheduled(family, name)
    averaged, variables = variables_of(family), variables_of(family)
    rng = np.random.default_rng(0)
    averages = [np.float64(each.numpy()) for each in variables]

    for step in range(4):
        gradients = list(map(tf.constant, gradients_of(rng)))
        optimizer.apply_gradients(zip(gradients, averaged))
        plain.apply_gradients(zip(gradients, variables))
        # Keras 3 starts with the variables after the first step.
        starts_here = step == 0 and family.keras.__name__ == "keras"
        momentum = 0.0 if starts_here else 0.75
        averages = [
            momentum * average + (1 - momentum) * each.numpy()
            for average, each in zip(averages, variables)
        ]
    assert_same(
        [each.numpy() for each in averaged],
        [each.numpy() for each in variables],
    )

    optimizer.finalize_variable_values(averaged)
    for variable, average in zip(averaged, averages):
        np.testing.assert_allclose(
            variable.numpy(), average, rtol=1e-6, atol=1e-7
        )


def test_ema_overwrites_the_variables_as_often_as_asked(family):
    optimizer = family.largebatch.HeavyBall(
        1.0,
        momentum=0.0,
        use_ema=True,
        ema_momentum=0.5,
        ema_overwrite_frequency=2,
    )
    w = family.variable([0.0])
    positions = []
    for _ in range(4):
        optimizer.apply_gradients([(tf.constant([-8.0]), w)])
        positions.append(float(w.numpy()[0]))

    # Keras 3's average starts at the first position, tf_keras's at the start.
    expected = {"keras": [8, 12, 20, 22], "tf_keras": [8, 10, 18, 20]}
    assert positions == expected[family.keras.__name__]
