"""Trust ratios and penalties, against what the optimizers really do."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_largebatch.garden import diagnostics
from tf_largebatch.rules import LAMB_VARIANTS, LARS_VARIANTS
from tf_largebatch.tf_keras import LAMB, LARS, Nesterov

RATE = 0.5


SHAPES = {"a/kernel": (4, 3), "a/bias": (3,), "b/kernel": (5, 2)}


@pytest.fixture
def variables():
    random = np.random.default_rng(0)
    return [
        tf.Variable(random.normal(size=shape).astype("float32"), name=name)
        for name, shape in SHAPES.items()
    ]


def gradients_of(variables, seed):
    random = np.random.default_rng(seed)
    return [
        tf.constant(random.normal(size=each.shape).astype("float32"))
        for each in variables
    ]


def recorded(optimizer, variables):
    """Builds an optimizer; returns where it notes the ratios it takes."""
    optimizer.build(variables)
    ratios = {
        index: tf.Variable(0.0) for index in diagnostics.adapted(optimizer)
    }
    optimizer.record(ratios)
    return ratios


def ratios_while_training(optimizer, variables, steps=3):
    """Yields the ratios, and each variable's values before and after."""
    ratios = recorded(optimizer, variables)
    for step in range(steps):
        gradients = gradients_of(variables, step)
        slots = [[slot.numpy() for slot in each] for each in optimizer._slots]
        before = [each.numpy() for each in variables]
        optimizer.apply_gradients(zip(gradients, variables))
        moved = [each.numpy() - b for each, b in zip(variables, before)]
        found = np.array([ratio.numpy() for ratio in ratios.values()])
        yield found, before, moved, slots, gradients


@pytest.mark.parametrize("variant", LARS_VARIANTS)
def test_ratios_of_lars_are_those_it_steps_by(variant, variables):
    decay, momentum = 0.1, 0.9
    optimizer = LARS(
        RATE, momentum, decay, trust_coefficient=0.1, variant=variant
    )
    published = LARS_VARIANTS[variant]
    for ratios, before, moved, slots, gradients in ratios_while_training(
        optimizer, variables
    ):
        assert ratios.shape == (2,)
        for ratio, index in zip(ratios, (0, 2)):
            w, v, g = before[index], slots[0][index], gradients[index].numpy()
            update = g + decay * w if published.adds_decay else g
            if not published.ratio_in_momentum:
                expected = RATE * ratio * (momentum * v + update)
            elif published.learning_rate_in_momentum:
                expected = momentum * v + RATE * ratio * update
            else:
                expected = RATE * (momentum * v + ratio * update)
            np.testing.assert_allclose(
                -moved[index], expected, rtol=1e-4, atol=1e-6
            )


@pytest.mark.parametrize("variant", LAMB_VARIANTS)
def test_ratios_of_lamb_are_those_it_steps_by(variant, variables):
    decay, published = 0.1, LAMB_VARIANTS[variant]
    optimizer = LAMB(RATE, weight_decay=decay, variant=variant)
    for step, (ratios, before, moved, slots, gradients) in enumerate(
        ratios_while_training(optimizer, variables), 1
    ):
        assert ratios.shape == (2,)
        for ratio, index in zip(ratios, (0, 2)):
            w, g = before[index], gradients[index].numpy()
            m = 0.9 * slots[0][index] + 0.1 * g
            s = 0.999 * slots[1][index] + 0.001 * g**2
            if published.bias_correction:
                m, s = m / (1 - 0.9**step), s / (1 - 0.999**step)
            direction = m / (np.sqrt(s) + published.epsilon)
            outside = 0.0
            if published.decay_in_ratio:
                direction += decay * w
            else:
                outside = RATE * decay * w
            np.testing.assert_allclose(
                -moved[index],
                RATE * ratio * direction + outside,
                rtol=1e-4,
                atol=1e-6,
            )


def test_ratios_are_of_clipped_gradients(variables):
    """LAMB's epsilon makes its ratio depend on their scale."""
    gradients = gradients_of(variables, 0)
    starts = [variable.numpy() for variable in variables]
    found = []
    for scale, clip in ((1.0, 0.01), (100.0, 0.01), (1.0, None)):
        for variable, start in zip(variables, starts):
            variable.assign(start)
        optimizer = LAMB(RATE, epsilon=0.1, global_clipnorm=clip)
        ratios = recorded(optimizer, variables)
        scaled = [scale * gradient for gradient in gradients]
        optimizer.apply_gradients(zip(scaled, variables))
        found.append(np.array([ratio.numpy() for ratio in ratios.values()]))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    assert np.all(found[0] > found[2])


def test_there_are_none_where_nothing_is_adapted(variables):
    for optimizer in (Nesterov(0.1), tf_keras.optimizers.SGD(0.1)):
        optimizer.build(variables)
        assert diagnostics.adapted(optimizer) == []


def test_the_penalty_is_half_lambda_times_the_squares_of_what_decays(variables):
    optimizer = Nesterov(0.1, weight_decay=0.25)
    optimizer.build(variables)
    expected = sum(np.sum(variables[index].numpy() ** 2) for index in (0, 2))
    found = diagnostics.l2_penalty(optimizer, variables)
    assert float(found) == pytest.approx(0.125 * expected, rel=1e-6)
    assert diagnostics.l2_penalty(tf_keras.optimizers.SGD(), variables) is None
