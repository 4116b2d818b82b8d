"""The rules in float64, in every array namespace, against the oracles."""

import contextlib
import importlib
import runpy
from pathlib import Path

import numpy as np
import pytest

from tf_largebatch import rules
from tf_largebatch.rules import LAMB_VARIANTS, LARS_VARIANTS

ORACLES = runpy.run_path(str(Path(__file__).parents[1] / "oracles.py"))
STEPS = 30

MOMENTUM = {"momentum": 0.8, "weight_decay": 0.05}
LARS = {**MOMENTUM, "trust_coefficient": 0.02, "epsilon": 0.1}
MOMENTS = {
    "beta_1": 0.8,
    "beta_2": 0.999,
    "epsilon": 0.01,
    "weight_decay": 0.1,
}


def lars_options(variant):
    return {"variant": LARS_VARIANTS[variant]}, {"variant": variant}


def lamb_options(variant):
    published = LAMB_VARIANTS[variant]
    options = {
        "bias_correction": published.bias_correction,
        "zero_norm_ratio": published.zero_norm_ratio,
        "decay_in_ratio": published.decay_in_ratio,
    }
    return options, {"variant": variant}


INSIDE = {"learning_rate_in_momentum": True}
UNCORRECTED = {"bias_correction": False}

# The rule, its numbers, and its options as the rule and the oracle take them.
CASES = {
    "heavy_ball outside": ("heavy_ball", MOMENTUM, {}, {}),
    "heavy_ball inside": ("heavy_ball", MOMENTUM, INSIDE, INSIDE),
    "nesterov outside": ("nesterov", MOMENTUM, {}, {}),
    "nesterov inside": ("nesterov", MOMENTUM, INSIDE, INSIDE),
    "adam corrected": ("adam", MOMENTS, {}, {}),
    "adam uncorrected": ("adam", MOMENTS, UNCORRECTED, UNCORRECTED),
}
for variant in LARS_VARIANTS:
    CASES[f"lars {variant}"] = ("lars", LARS, *lars_options(variant))
for variant in LAMB_VARIANTS:
    CASES[f"lamb {variant}"] = ("lamb", MOMENTS, *lamb_options(variant))

NAMESPACES = ["numpy", "jax.numpy", "keras.ops", "tf_largebatch.tf_keras"]


@pytest.fixture(params=NAMESPACES)
def xp(request):
    """An array namespace that makes arrays of float64."""
    module = importlib.import_module(request.param)
    precision = contextlib.nullcontext()
    if request.param == "jax.numpy":
        precision = importlib.import_module("jax").enable_x64(True)
    with precision:
        yield getattr(module, "namespace", module)


def array(xp, value):
    return xp.array(np.asarray(value, "float64"), dtype="float64")


def end_by_rule(xp, rule, w, gradients, rates, arguments):
    is_adaptive = rule in ("adam", "lamb")
    slots = [array(xp, np.zeros_like(w))] * (2 if is_adaptive else 1)
    w = array(xp, w)
    for t, (g, eta) in enumerate(zip(gradients, rates)):
        step = {"step": array(xp, t)} if is_adaptive else {}
        w, *ends = getattr(rules, rule)(
            xp,
            w,
            array(xp, g),
            *slots,
            learning_rate=array(xp, eta),
            **step,
            **arguments,
        )
        slots = ends[: len(slots)]  # The trust ratio may follow.
    return np.asarray(w)


def variables():
    """Yields starts and gradients: plain, zero at times, rank 0 and 4."""
    rng = np.random.default_rng(0)
    for shape in ((), (3, 2), (2, 1, 2, 3)):
        yield rng.normal(size=shape), rng.normal(size=(STEPS, *shape))
    yield np.zeros((3, 2)), rng.normal(size=(STEPS, 3, 2))
    gradients = rng.normal(size=(STEPS, 2, 2))
    gradients[::4] = 0
    yield rng.normal(size=(2, 2)), gradients
    yield rng.normal(size=(2, 2)), np.zeros((STEPS, 2, 2))


@pytest.mark.parametrize("hyperparameters_are", ["floats", "arrays"])
@pytest.mark.parametrize("case", CASES)
def test_the_rule_equals_its_oracle(xp, case, hyperparameters_are):
    rule, numbers, options, oracle_options = CASES[case]
    rates = np.random.default_rng(1).uniform(0.01, 0.1, size=STEPS)
    applies = {"decayed": True}
    if rule in ("lars", "lamb"):
        applies["adapted"] = True
    given = numbers
    if hyperparameters_are == "arrays":
        given = {key: array(xp, value) for key, value in numbers.items()}

    for start, gradients in variables():
        end = end_by_rule(
            xp, rule, start, gradients, rates, {**given, **options}
        )
        expected = ORACLES[rule](
            start, gradients, rates, **applies, **numbers, **oracle_options
        )
        error = np.linalg.norm(end - expected)
        assert error <= 1e-12 * np.linalg.norm(expected - start)
