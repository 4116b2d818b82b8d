"""The schedule classes of both Keras families."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

SCHEDULES = {
    "PiecewisePolynomial": {
        "peak": 2.0,
        "total_steps": 10,
        "warmup_steps": 2.5,
        "final": 0.125,
        "decay_steps": 8.5,
    },
    "Cosine": {"peak": 2.0, "total_steps": 10, "warmup_steps": 2.5},
    "BertPolynomial": {
        "peak": 2.0,
        "total_steps": 10,
        "warmup_steps": 2.5,
        "discontinuous": True,
    },
}

# By hand, from the formulas, at steps 0, 2, 3 and 9.
RATES = {
    "PiecewisePolynomial": [
        0,
        1.6,
        0.125 + 1.875 * (8 / 8.5) ** 2,
        0.125 + 1.875 * (2 / 8.5) ** 2,
    ],
    "Cosine": [
        0,
        1.6,
        1 + math.cos(math.pi / 15),
        1 + math.cos(math.pi * 13 / 15),
    ],
    "BertPolynomial": [0, 1.6, 1.4, 0.2],
}


@pytest.fixture(params=SCHEDULES)
def schedule_name(request):
    return request.param


def make(family, name, **arguments):
    constructor = getattr(family.largebatch, name)
    return constructor(**{**SCHEDULES[name], **arguments})


def test_is_a_schedule_of_its_keras(family, schedule_name):
    base = family.keras.optimizers.schedules.LearningRateSchedule
    assert isinstance(make(family, schedule_name), base)


def test_rates(family, schedule_name):
    schedule = make(family, schedule_name)
    rates = [float(schedule(step)) for step in (0, 2, 3, 9)]
    np.testing.assert_allclose(rates, RATES[schedule_name], rtol=3e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_rates_in_a_graph(family, schedule_name, jit_compile):
    schedule = make(family, schedule_name)
    compiled = tf.function(
        schedule,
        jit_compile=jit_compile,
        input_signature=[tf.TensorSpec([], tf.int64)],
    )
    rates = [float(compiled(step)) for step in (0, 2, 3, 9)]
    np.testing.assert_allclose(rates, RATES[schedule_name], rtol=3e-6)


def test_the_optimizer_asks_for_the_rate_of_every_step(family, schedule_name):
    """From step 0, which warmup makes a step of length 0."""
    optimizer = family.largebatch.HeavyBall(
        make(family, schedule_name), momentum=0.0
    )
    w = family.variable([0.0])
    places = []
    for _ in range(10):
        optimizer.apply_gradients([(tf.constant([-1.0]), w)])
        places.append(float(keras.ops.convert_to_numpy(w)[0]))
    steps = np.diff(places, prepend=0.0)
    np.testing.assert_allclose(
        steps[[0, 2, 3, 9]], RATES[schedule_name], rtol=3e-6, atol=1e-6
    )


@pytest.mark.parametrize(
    "arguments, received",
    [
        ({"peak": -1.0}, "peak=-1.0"),
        ({"peak": math.nan}, "peak=nan"),
        ({"peak": None}, "peak=None"),
        ({"peak": True}, "peak=True"),
        ({"peak": "1"}, "peak='1'"),
        ({"total_steps": math.inf}, "total_steps=inf"),
        ({"total_steps": 0, "warmup_steps": 0}, "total_steps=0"),
        ({"total_steps": None}, "total_steps=None"),
        ({"warmup_steps": -0.5}, "warmup_steps=-0.5"),
        ({"warmup_steps": 10.5}, "warmup_steps=10.5, total_steps=10"),
    ],
)
def test_arguments_that_make_no_schedule(
    family, schedule_name, arguments, received
):
    with pytest.raises(ValueError) as caught:
        make(family, schedule_name, **arguments)
    message = str(caught.value)
    assert message.endswith(f"Received: {received}")
    assert "\n" not in message


@pytest.mark.parametrize(
    "name, argument",
    [
        ("PiecewisePolynomial", "initial"),
        ("PiecewisePolynomial", "final"),
        ("PiecewisePolynomial", "warmup_power"),
        ("PiecewisePolynomial", "decay_power"),
        ("PiecewisePolynomial", "decay_steps"),
        ("Cosine", "final"),
        ("BertPolynomial", "power"),
        ("BertPolynomial", "warmup_power"),
    ],
)
@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf, "2", [1.0], True])
def test_every_number_is_checked(family, name, argument, value):
    with pytest.raises(ValueError, match=f"`{argument}`.*Received"):
        make(family, name, **{argument: value})


@pytest.mark.parametrize(
    "name, argument",
    [("PiecewisePolynomial", "decay_power"), ("BertPolynomial", "power")],
)
def test_a_decay_that_does_not_end_where_it_should_is_refused(
    family, name, argument
):
    """Nothing to the power of 0 is 1: the rate would stay at the peak."""
    with pytest.raises(ValueError, match=f"`{argument}`.*larger than 0"):
        make(family, name, **{argument: 0})
    schedule = make(family, name, **{argument: 1e-3})
    assert float(schedule(11)) == SCHEDULES[name].get("final", 0.0)


@pytest.mark.parametrize("value", [5.5, 1, "yes", None])
def test_an_option_is_a_bool(family, value):
    with pytest.raises(ValueError, match="must be a bool") as caught:
        make(family, "BertPolynomial", discontinuous=value)
    assert str(caught.value).endswith(f"Received: discontinuous={value!r}")
