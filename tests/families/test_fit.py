"""`compile` and `fit`: the loss falls, with XLA and without, at any rate."""

import numpy as np
import pytest


def test_fit_lowers_the_loss_and_xla_changes_nothing(family, name, train):
    plain = family.compiled(family.optimizer(name))
    compiled = family.compiled(family.optimizer(name), jit_compile=True)
    start = plain.get_weights()

    losses = train(plain, epochs=5)
    train(compiled, epochs=5)

    assert losses[-1] < 0.9 * losses[0]
    ends = zip(plain.get_weights(), compiled.get_weights())
    for before, (plain_end, compiled_end) in zip(start, ends):
        distance = np.linalg.norm(plain_end - before)
        assert np.linalg.norm(plain_end - compiled_end) < 1e-4 * distance


@pytest.mark.parametrize("rate", [0.5, 2, np.float64(0.25)])
def test_a_rate_may_be_a_float_an_int_or_a_numpy_number(family, rate):
    w = family.variable([3.0])
    optimizer = family.largebatch.HeavyBall(rate, momentum=0)

    optimizer.apply_gradients([(np.ones(1, "float32"), w)])

    assert w.numpy() == [3.0 - rate]
    assert optimizer.get_config()["learning_rate"] == rate


def test_a_schedule_is_asked_for_step_0_first(family):
    w = family.variable([0.0])
    schedule = family.largebatch.PiecewisePolynomial(
        peak=1.0, total_steps=4, warmup_steps=2
    )
    optimizer = family.largebatch.HeavyBall(schedule, momentum=0.0)

    positions = [0.0]
    for _ in range(5):
        optimizer.apply_gradients([(np.ones(1, "float32"), w)])
        positions.append(float(w.numpy()[0]))

    np.testing.assert_array_equal(-np.diff(positions), [0, 0.5, 1, 0.25, 0])


def test_fit_follows_a_schedule(family, train):
    schedule = family.largebatch.Cosine(peak=0.05, total_steps=2)
    model = family.compiled(family.largebatch.HeavyBall(schedule, 0.0))

    train(model, epochs=1)  # Two steps, after which the rate is 0.
    after_two = model.trainable_variables[0].numpy()
    train(model, epochs=1)

    assert int(model.optimizer.iterations) == 4
    np.testing.assert_array_equal(
        model.trainable_variables[0].numpy(), after_two
    )


def test_a_rate_can_be_set_between_steps(family):
    w = family.variable([0.0])
    optimizer = family.largebatch.HeavyBall(1.0, momentum=0.0)
    optimizer.apply_gradients([(np.ones(1, "float32"), w)])

    optimizer.learning_rate = 0.25
    optimizer.apply_gradients([(np.ones(1, "float32"), w)])

    assert w.numpy() == [-1.25]
