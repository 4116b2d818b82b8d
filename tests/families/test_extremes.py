"""Very large and small gradients, and counts that floats cannot hold."""

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch import rules
from tf_largebatch.rules import LAMB_VARIANTS, LARS_VARIANTS
from tf_largebatch.rules.arrays import l2_norm
from tf_largebatch.tf_keras import namespace

CASES = runpy.run_path(str(Path(__file__).with_name("test_oracles.py")))
STEPS, ORACLE_OF = CASES["STEPS"], CASES["ORACLE_OF"]
SCALES = [1e-16, 1e17]
PURE = {"exclude_from_layer_adaptation": (), "exclude_from_weight_decay": ()}
VARIANTS = [("LARS", name) for name in LARS_VARIANTS]
VARIANTS += [("LAMB", name) for name in LAMB_VARIANTS]
# One count that float32 rounds, and one beyond 32 bits.
LATE = [2**24 + 1, 2**31 + 5]


@pytest.fixture(scope="module")
def start():
    return np.random.default_rng(4).normal(size=(4, 3)).astype("float32")


@pytest.fixture(scope="module")
def gradients():
    values = np.random.default_rng(5).normal(size=(STEPS, 4, 3))
    return values.astype("float32")


def decay_of(name, scale):
    """LARS's ratio compares it to the gradient, LAMB's to Adam's step."""
    return 0.05 * scale if name == "LARS" else 0.0


def assert_near_oracle(
    family, name, variant, scale, start, gradients, jit_compile
):
    peak = 2.0 if name == "LARS" else 0.1
    decay = decay_of(name, scale)
    gradients = np.float32(scale) * gradients
    schedule = family.largebatch.PiecewisePolynomial(
        peak, STEPS, CASES["WARMUP_STEPS"], initial=0.1 * peak
    )
    arguments = {"weight_decay": decay, "variant": variant}
    if name == "LARS":
        # timm's has one, beside which 1e-16 is nothing.
        arguments["epsilon"] = 0.0
    optimizer = getattr(family.largebatch, name)(schedule, **arguments, **PURE)
    ends = CASES["ends_by_optimizer"](
        family, optimizer, {"w": start}, {"w": gradients}, jit_compile
    )
    if name == "LARS":
        arguments |= {"momentum": 0.929, "trust_coefficient": 0.001}
    expected = ORACLE_OF[name](
        np.float64(start),
        np.float64(gradients),
        CASES["rates_up_to"](peak),
        decayed=True,
        adapted=True,
        **arguments,
    )
    assert np.linalg.norm(expected - start) > 1e-3
    CASES["assert_near"](ends, {"w": expected}, {"w": start})


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name, variant", VARIANTS)
def test_ratios_are_right_at_the_ends_of_the_range(
    family, name, variant, scale, start, gradients
):
    assert_near_oracle(family, name, variant, scale, start, gradients, False)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["LARS", "LAMB"])
def test_so_they_are_with_xla(family, name, scale, start, gradients):
    assert_near_oracle(family, name, "mlperf", scale, start, gradients, True)


@pytest.mark.parametrize("xp", [np, keras.ops, namespace])
@pytest.mark.parametrize("size", [0.0, 1e-18, 1e-12, 1.0, 1e17])
def test_a_norm_is_that_of_float64(xp, size):
    g = np.float32(size) * np.float32([[3, -4], [12, 84]])
    found = float(l2_norm(xp, xp.array(g)))
    np.testing.assert_allclose(found, np.linalg.norm(np.float64(g)), rtol=3e-7)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_no_number_stays_none(value):
    assert not np.isfinite(l2_norm(namespace, tf.constant([1.0, value])))


@pytest.mark.parametrize("step", LATE)
def test_counters_are_exact_far_beyond_float32(step):
    """Keras 3 has an int32 of its own; tf_keras counts up to 2^63."""
    import tf_largebatch.tf_keras as family

    w = tf.Variable([1.0])
    optimizer = family.Nesterov(family.Cosine(0.5, total_steps=2 * step))
    optimizer.build([w])
    optimizer.iterations.assign(step)
    optimizer.apply_gradients([(tf.constant([0.1]), w)])
    assert int(optimizer.iterations.numpy()) == step + 1
    rate = 0.5 * (1 + np.cos(np.pi * step / (2 * step))) / 2
    np.testing.assert_allclose(1 - w.numpy(), rate * 0.1 * 1.9, rtol=1e-5)


@pytest.mark.parametrize("name", ["Adam", "LAMB"])
def test_the_first_step_is_right_with_the_largest_beta(family, name):
    """Adam's direction is the gradient's sign; LAMB's ratio is 2 to 1."""
    beta = float(np.nextafter(1 - 2.0**-25, 0))
    optimizer = getattr(family.largebatch, name)(
        0.25, beta_2=beta, epsilon=0.0, weight_decay=0.0
    )
    w = family.variable([[2.0]])
    optimizer.apply_gradients([(tf.constant([[-3.0]]), w)])
    moved = 0.5 if name == "LAMB" else 0.25
    np.testing.assert_allclose(w.numpy(), [[2 + moved]], rtol=1e-6)


@pytest.mark.parametrize("step", [10**7, *LATE])
def test_adam_is_right_after_so_many_steps(step):
    """With a beta so near to 1 that the corrections are still on the way."""
    beta = 1 - 2.0**-24
    arguments = {"learning_rate": 0.1, "beta_1": 0.9, "epsilon": 0.0}

    def end(xp, dtype):
        w, g, m, s = (xp.array([x], dtype) for x in (1.0, 2.0, 1.0, 3.0))
        return rules.adam(
            xp, w, g, m, s, step=xp.array(step, dtype), beta_2=beta, **arguments
        )[0]

    correction = -np.expm1((step + 1) * np.log1p(-(2.0**-24)))
    s = (beta * 3 + (1 - beta) * 4) / correction
    expected = 1 - 0.1 * (0.9 + 0.2) / np.sqrt(s)
    np.testing.assert_allclose(end(np, "float64"), expected, rtol=1e-8)
    np.testing.assert_allclose(end(namespace, "float32"), expected, rtol=1e-6)
