"""The schedules against their formulas in float64 and the paper's values."""

import functools

import jax.numpy
import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch import schedules
from tf_largebatch.tf_keras import namespace

TOLERANCE = 3e-6  # Relative, up to the last step.

NAMESPACES = {
    "numpy": np,
    "jax.numpy": jax.numpy,
    "keras.ops": keras.ops,
    "tensorflow": namespace,
}

# Configuration B of the paper's table 1, and the published LARS pipeline.
NESTEROV_B = {
    "peak": 7.05,
    "total_steps": 2512,
    "warmup_steps": 706,
    "final": 6e-6,
    "warmup_power": 2.0,
}
LARS_PIPELINE = {
    "peak": 29.0,
    "total_steps": 2512,
    "warmup_steps": 706.5,
    "final": 1e-4,
    "decay_steps": 1806.5,
}


@pytest.fixture(params=NAMESPACES)
def xp(request):
    return NAMESPACES[request.param]


def piecewise_polynomial(
    t,
    peak,
    total_steps,
    warmup_steps,
    initial=0.0,
    final=0.0,
    warmup_power=1.0,
    decay_power=2.0,
    decay_steps=None,
):
    """The paper's section 2.1.4, for one step."""
    if warmup_steps and t <= warmup_steps:
        done = t / warmup_steps
        return initial + (peak - initial) * done**warmup_power
    if decay_steps is None:
        decay_steps = total_steps - warmup_steps
    gone = min(t - warmup_steps, decay_steps) / decay_steps
    return final + (peak - final) * (1 - gone) ** decay_power


def cosine(t, peak, total_steps, warmup_steps=0, final=0.0):
    """Half a cosine, in the half-angle form that has digits at its end."""
    if warmup_steps and t <= warmup_steps:
        return peak * t / warmup_steps
    left = max(total_steps - t, 0) / (total_steps - warmup_steps)
    return final + (peak - final) * np.sin(np.pi / 2 * left) ** 2


def bert_polynomial(
    t,
    peak,
    total_steps,
    warmup_steps,
    power=1.0,
    warmup_power=1.0,
    discontinuous=False,
):
    """google-research/bert, optimization.py, and its continuous form."""
    if t < warmup_steps:
        return peak * (t / warmup_steps) ** warmup_power
    start = 0 if discontinuous else warmup_steps
    left = max(total_steps - t, 0) / (total_steps - start)
    return peak * left**power


FORMULAS = {
    "piecewise_polynomial": piecewise_polynomial,
    "cosine": cosine,
    "bert_polynomial": bert_polynomial,
}


def interesting_steps(total_steps, warmup_steps):
    """The first and last steps, those about the peak, and some between."""
    few = np.arange(min(total_steps, 30))
    steps = np.concatenate(
        [
            few,
            total_steps - 1 - few,
            int(warmup_steps) + np.arange(-3, 4),
            np.linspace(0, total_steps - 1, 200).astype(int),
        ]
    )
    return np.unique(np.clip(steps, 0, total_steps - 1))


def assert_agrees(function, step, xp, **arguments):
    """Asserts that a schedule agrees with its formula at all of ``step``."""
    rates = getattr(schedules, function)(xp, step, **arguments)
    formula = FORMULAS[function]
    expected = [formula(float(t), **arguments) for t in np.atleast_1d(step)]
    rates = keras.ops.convert_to_numpy(rates)
    assert rates.dtype == np.float32
    np.testing.assert_allclose(rates.ravel(), expected, TOLERANCE, atol=0)


SHAPES = [
    ("piecewise_polynomial", {}),
    ("piecewise_polynomial", {"final": 1e-4, "warmup_power": 2.0}),
    ("piecewise_polynomial", {"initial": 0.7, "final": 6e-6}),
    ("piecewise_polynomial", {"warmup_power": 1.7, "decay_power": 1.3}),
    ("piecewise_polynomial", {"decay_power": 0.5, "warmup_power": 3}),
    ("piecewise_polynomial", {"decay_power": 4}),
    ("cosine", {}),
    ("cosine", {"final": 1e-4}),
    ("bert_polynomial", {}),
    ("bert_polynomial", {"power": 0.5, "warmup_power": 2.0}),
    ("bert_polynomial", {"discontinuous": True}),
    ("bert_polynomial", {"discontinuous": True, "power": 2.0}),
]


@pytest.mark.parametrize(
    "total_steps, warmup_fraction",
    [
        (60, 0),
        (72, 0.28105),
        (2512, 0.28105),
        (15_625, 0.2),
        (10_000_000, 0),
        (10_000_000, 1 / 3),
        (100_000_000, 0.2),  # Beyond the integers that float32 has.
    ],
)
@pytest.mark.parametrize("function, arguments", SHAPES)
def test_every_step_agrees_with_float64(
    function, arguments, total_steps, warmup_fraction, xp
):
    warmup_steps = warmup_fraction * total_steps
    assert_agrees(
        function,
        interesting_steps(total_steps, warmup_steps),
        xp,
        peak=29.0,
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        **arguments,
    )


@pytest.mark.parametrize("total_steps", [2512, 10_000_000])
@pytest.mark.parametrize("extra", [-0.5, 0.3, 1, 1000])
@pytest.mark.parametrize("warmup_steps", [0, 0.1, 706.5, 2000])
def test_another_length_of_the_decay_agrees_with_float64(
    warmup_steps, extra, total_steps, xp
):
    assert_agrees(
        "piecewise_polynomial",
        interesting_steps(total_steps, warmup_steps),
        xp,
        peak=29.0,
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        final=1e-4,
        decay_steps=total_steps - warmup_steps + extra,
    )


@pytest.mark.parametrize("function", FORMULAS)
@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "int16", "uint16", "uint32", "uint64", "float32"]
)
def test_a_step_of_any_kind_comes_to_the_end(kind, function, xp):
    """Subtracted from the end in integers, one without a sign would not."""
    steps = np.array([0, 29, 30, 31, 100, 101, 127], kind)
    rates = getattr(schedules, function)(
        xp, steps, peak=0.5, total_steps=100, warmup_steps=30
    )
    expected = [FORMULAS[function](float(t), 0.5, 100, 30) for t in steps]
    np.testing.assert_allclose(rates, expected, TOLERANCE, atol=0)


@pytest.mark.parametrize("function", FORMULAS)
@pytest.mark.parametrize("total_steps", [2**31 + 10, 2**36 + 1, 1e30])
def test_a_run_may_be_longer_than_a_step_can_count(total_steps, function, xp):
    """As those write it who want a warmup and then a constant rate."""
    steps = np.array([0, 10, 30, 100, 2**31 - 1], "int32")
    rates = getattr(schedules, function)(
        xp, steps, peak=0.5, total_steps=total_steps, warmup_steps=30
    )
    expected = [
        FORMULAS[function](float(t), 0.5, total_steps, 30) for t in steps
    ]
    np.testing.assert_allclose(rates, expected, TOLERANCE, atol=0)


@pytest.mark.parametrize("function", FORMULAS)
def test_the_last_steps_of_a_long_run_are_told_apart(function):
    end = 2**36
    steps = np.arange(end - 5, end + 1)
    rates = getattr(schedules, function)(
        np, steps, peak=0.5, total_steps=end, warmup_steps=end - 10
    )
    expected = [FORMULAS[function](int(t), 0.5, end, end - 10) for t in steps]
    np.testing.assert_allclose(rates, expected, TOLERANCE, atol=0)


@pytest.mark.parametrize("function", FORMULAS)
@pytest.mark.parametrize("number", [0, 200_000, 9_999_999])
@pytest.mark.parametrize(
    "kind",
    [int, np.int32, np.int64, tf.constant, tf.Variable, keras.Variable],
)
def test_a_step_may_be_of_any_integer_kind(kind, number, function):
    kinds = {
        tf.constant: functools.partial(tf.constant, dtype=tf.int64),
        tf.Variable: functools.partial(tf.Variable, dtype=tf.int64),
        keras.Variable: functools.partial(keras.Variable, dtype="int64"),
    }
    step = kinds.get(kind, kind)(number)
    for xp in (keras.ops, namespace):
        rate = getattr(schedules, function)(
            xp, step, peak=0.5, total_steps=10_000_000, warmup_steps=1e6
        )
        expected = FORMULAS[function](float(number), 0.5, 1e7, 1e6)
        assert rate.shape == ()
        np.testing.assert_allclose(float(rate), expected, TOLERANCE, atol=0)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,)])
def test_the_rates_have_the_steps_shape(shape, xp):
    steps = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    for function in FORMULAS:
        rates = getattr(schedules, function)(
            xp, steps, peak=1.0, total_steps=9, warmup_steps=3.5
        )
        assert tuple(rates.shape) == shape


@pytest.mark.parametrize(
    "step, rate",
    [(0, 0), (353, 1.7625), (706, 7.05), (1500, 2.21368), (2512, 6e-6)],
)
def test_nesterovs_configuration_b(step, rate, xp):
    found = schedules.piecewise_polynomial(xp, step, **NESTEROV_B)
    assert float(found) == pytest.approx(rate, rel=TOLERANCE)


@pytest.mark.parametrize(
    "step, text",
    [
        (0, "0.0000"),
        (706, "28.9795"),
        (707, "28.9839"),
        (2510, "1.800e-04"),
        (2511, "1.355e-04"),
        (2513, "1.000e-04"),
    ],
)
def test_the_published_lars_pipeline(step, text, xp):
    found = float(schedules.piecewise_polynomial(xp, step, **LARS_PIPELINE))
    digits = ".3e" if "e" in text else ".4f"
    assert f"{found:{digits}}" == text


def test_the_pipelines_rate_stays_below_its_peak(xp):
    rates = schedules.piecewise_polynomial(xp, np.arange(2512), **LARS_PIPELINE)
    assert 28.98 < float(np.max(rates)) < 28.99


@pytest.mark.parametrize(
    "warmup_steps, step, released, continuous",
    [
        (2000, 1999, 1999 / 2000, 1999 / 2000),
        (2000, 2000, 0.8, 1.0),
        (2000, 2001, 0.7999, 7999 / 8000),
        (2000.5, 2000, 2000 / 2000.5, 2000 / 2000.5),
        (2000.5, 2001, 0.7999, 7999 / 7999.5),
    ],
)
def test_the_released_bert_schedule_drops_where_the_warmup_ends(
    warmup_steps, step, released, continuous, xp
):
    for discontinuous, expected in (True, released), (False, continuous):
        found = schedules.bert_polynomial(
            xp,
            step,
            peak=1.0,
            total_steps=10_000,
            warmup_steps=warmup_steps,
            discontinuous=discontinuous,
        )
        assert float(found) == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("function", FORMULAS)
@pytest.mark.parametrize("beyond", [0, 1, 1000, 2**31 - 10_001])
def test_from_the_end_on_the_rate_is_the_final_one(function, beyond, xp):
    has_final = function != "bert_polynomial"
    found = getattr(schedules, function)(
        xp,
        10_000 + beyond,
        peak=3.0,
        total_steps=10_000,
        warmup_steps=100.5,
        **({"final": 0.125} if has_final else {}),
    )
    assert float(found) == (0.125 if has_final else 0.0)


def test_a_shorter_decay_ends_before_the_run_does(xp):
    rates = schedules.piecewise_polynomial(
        xp,
        np.arange(20),
        peak=1.0,
        total_steps=20,
        warmup_steps=4,
        final=0.25,
        decay_steps=8,
    )
    assert float(rates[11]) > 0.25
    assert set(np.asarray(rates[12:]).tolist()) == {0.25}


@pytest.mark.parametrize("function", FORMULAS)
def test_without_warmup_the_first_step_has_the_peak(function, xp):
    found = getattr(schedules, function)(
        xp, 0, peak=0.3, total_steps=10, warmup_steps=0
    )
    assert float(found) == np.float32(0.3)


@pytest.mark.parametrize("function", FORMULAS)
def test_a_warmup_as_long_as_the_run_is_all_there_is(function, xp):
    rates = getattr(schedules, function)(
        xp, np.arange(8), peak=4.0, total_steps=8, warmup_steps=8
    )
    np.testing.assert_array_equal(np.asarray(rates), np.arange(8) / 2)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("xp_name", ["keras.ops", "tensorflow"])
@pytest.mark.parametrize("function, arguments", SHAPES)
def test_in_a_compiled_program(function, arguments, xp_name, jit_compile):
    xp = NAMESPACES[xp_name]
    arguments = {
        "peak": 29.0,
        "total_steps": 2512,
        "warmup_steps": 706.5,
        **arguments,
    }
    steps = interesting_steps(2512, 706.5)

    @tf.function(
        jit_compile=jit_compile,
        input_signature=[tf.TensorSpec([len(steps)], tf.int64)],
    )
    def rates(step):
        return getattr(schedules, function)(xp, step, **arguments)

    expected = [FORMULAS[function](float(t), **arguments) for t in steps]
    np.testing.assert_allclose(rates(steps), expected, TOLERANCE, atol=0)


@pytest.mark.parametrize("name", ["warmup_steps", "decay_steps"])
def test_a_part_of_next_to_no_steps_has_finite_rates(name, xp):
    arguments = {"peak": 1.0, "total_steps": 10, "warmup_steps": 2}
    arguments |= {name: 1e-300}
    found = schedules.piecewise_polynomial(xp, np.arange(12), **arguments)
    assert np.isfinite(np.asarray(found)).all()


@pytest.mark.parametrize("value", [10**400, -(10**400), 1j, "1", None])
def test_what_is_no_number_is_named(value):
    with pytest.raises(ValueError, match="`peak` must .*Received: peak="):
        schedules.Cosine(peak=value, total_steps=10)
