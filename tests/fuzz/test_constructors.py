"""Optimizers, schedules and selectors with arguments of any kind."""

import inspect

import numpy as np
import pytest
from hypothesis import strategies as st

import tf_largebatch.keras
import tf_largebatch.tf_keras
from tf_largebatch import schedules, variables
from tf_largebatch.errors import UserError
from tf_largebatch.tf_keras import model_garden

FAMILIES = (tf_largebatch.keras, tf_largebatch.tf_keras)
OPTIMIZERS = ("Adam", "HeavyBall", "LAMB", "LARS", "Nesterov")
SCHEDULES = ("Cosine", "PiecewisePolynomial", "BertPolynomial")
ODD = (
    *(1j, b"x", object, len, np.float32("nan"), np.float64(0.5), np.int64(-1)),
    *(np.array([0.1, 0.2]), np.array(0.1), np.str_("x"), {1}, range(3), ...),
)
PATHS = ["dense/kernel", "dense/bias", "norm/gamma"]
SHAPES = [(2, 3), (3,), (3,)]


def is_refused(make):
    """Whether a call is refused, in one line that says what was given."""
    try:
        make()
    except ValueError as error:
        assert "\n" not in str(error)
        assert "Received: " in str(error)
        return True
    return False


@st.composite
def calls(draw, classes, values):
    """Draws a class and some of its arguments."""
    found = draw(st.sampled_from(classes))
    names = list(inspect.signature(getattr(FAMILIES[0], found)).parameters)
    names = [name for name in names if name not in ("kwargs", "name")]
    chosen = draw(st.lists(st.sampled_from(names), max_size=3, unique=True))
    return found, {name: draw(values) for name in chosen}


@pytest.fixture(scope="module")
def anything(mutations):
    """Draws any value of Python's."""
    right = st.sampled_from([0.1, 0.5, 0, True, False, None, "mlperf"])
    patterns = st.lists(st.sampled_from(["bias", "(", "no", "^dense"]))
    return st.one_of(right, mutations.values, st.sampled_from(ODD), patterns)


@pytest.mark.sizes(10, 300)
def test_an_optimizer(fuzz, anything, count):
    def check(case):
        family, (name, arguments) = case
        given = {"learning_rate": 0.1, **arguments}
        return is_refused(lambda: getattr(family, name)(**given))

    cases = calls(OPTIMIZERS, anything)
    fuzz.all(st.tuples(st.sampled_from(FAMILIES), cases), count, check)


@pytest.mark.sizes(10, 300)
def test_a_schedule(fuzz, anything, count):
    right = {"peak": 0.1, "total_steps": 100, "warmup_steps": 10}

    def check(case):
        family, (name, arguments) = case
        return is_refused(
            lambda: getattr(family, name)(**{**right, **arguments})
        )

    cases = calls(SCHEDULES, anything)
    fuzz.all(st.tuples(st.sampled_from(FAMILIES), cases), count, check)


@pytest.mark.sizes(6, 200)
def test_rates_are_finite_or_refused(fuzz, count):
    """Of whatever numbers a schedule can have."""
    numbers = st.one_of(
        st.floats(0, 1e4), st.integers(0, 10**4), st.floats(0, 1e-3)
    )

    def check(case):
        name, arguments = case
        found = {"peak": 1.0, "total_steps": 100, "warmup_steps": 10}
        found |= arguments
        kind = getattr(schedules, name)
        if is_refused(lambda: kind(**found)):
            return True
        rates = kind(**found).rate(np, np.arange(12))
        assert np.isfinite(rates).all()
        return False

    fuzz.all(calls(SCHEDULES, numbers), count, check)


@pytest.mark.sizes(6, 200)
def test_a_selector(fuzz, mutations, anything, count):
    def check(selector):
        return is_refused(
            lambda: variables.select(selector, PATHS, SHAPES, "argument")
        )

    lists = st.lists(anything, max_size=3)
    drawn = st.one_of(anything, lists, st.text().map(lambda text: [text]))
    fuzz.all(drawn.filter(lambda x: not callable(x)), count, check)


@pytest.mark.sizes(6, 200)
def test_the_model_gardens_configs(fuzz, mutations, count):
    tree = {
        "optimizer": {
            "type": "largebatch_lars",
            "largebatch_lars": {"momentum": 0.9, "epsilon": None},
        },
        "learning_rate": {
            "type": "largebatch_piecewise_polynomial",
            "largebatch_piecewise_polynomial": {
                "peak": 1.0,
                "total_steps": 10,
                "warmup_steps": 2,
                "decay_steps": None,
            },
        },
        "warmup": {"type": None},
        "ema": None,
    }

    def check(values):
        from tf_largebatch.garden.overrides import override

        config = model_garden.LargeBatchOptimizationConfig()
        try:
            override(config, values, "test")
            model_garden.build_optimizer(config)
        except UserError as error:
            assert "\n" not in str(error)
            return True
        return False

    fuzz.all(mutations.trees(tree), count, check)
