"""One or two steps of every rule, worked out by hand."""

import numpy as np
import pytest

from tf_largebatch import rules
from tf_largebatch.rules import LAMB_VARIANTS, LARS_VARIANTS

ROOT = np.sqrt(1.85)  # The norm of g + lambda w below, (1.3, 0.4).
PUBLISHED = (1.3 / 3000, 0.4 / 3000)  # (4.333e-4, 1.333e-4)
DECAYED_NORM = (1.3 / 2000 / ROOT, 0.4 / 2000 / ROOT)  # (4.779e-4, 1.470e-4)


def assert_equal(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "rule, inside, expected",
    [
        ("heavy_ball", False, [0.9, 0.6]),
        ("heavy_ball", True, [0.9, 0.65]),
        ("nesterov", False, [0.85, 0.5]),
        ("nesterov", True, [0.85, 0.525]),
    ],
)
def test_momentum_while_the_rate_doubles(rule, inside, expected):
    w, v = 1.0, 0.0
    for rate, position in zip((0.1, 0.2), expected):
        w, v = getattr(rules, rule)(
            np,
            w,
            1.0,
            v,
            learning_rate=rate,
            momentum=0.5,
            learning_rate_in_momentum=inside,
        )
        assert_equal(w, position)


@pytest.mark.parametrize("rule", ["heavy_ball", "nesterov"])
def test_momentum_takes_the_decay_into_the_gradient(rule):
    w, v = getattr(rules, rule)(
        np, 2.0, 1.0, 0.0, learning_rate=0.1, momentum=0.0, weight_decay=0.25
    )
    assert_equal((w, v), (1.85, 1.5))


@pytest.mark.parametrize(
    "variant, step",
    [
        ("mlperf", PUBLISHED),
        ("mlperf_tf", PUBLISHED),
        ("contrib_old", (1 / 3000, 0)),
        ("optax", DECAYED_NORM),
        ("model_garden", DECAYED_NORM),
        ("model_garden_outside", DECAYED_NORM),
        ("timm", PUBLISHED),
        ("flax_2020", PUBLISHED),
    ],
)
def test_the_first_step_of_lars(variant, step):
    start = np.array([3.0, 4.0])
    w, *_ = rules.lars(
        np,
        start,
        np.array([1.0, 0.0]),
        np.zeros(2),
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=0.1,
        trust_coefficient=0.001,
        variant=LARS_VARIANTS[variant],
    )
    np.testing.assert_allclose(start - w, step, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize(
    "variant, end",
    [
        ("mlperf", 4.25),
        ("mlperf_tf", 4.25),
        ("contrib_old", 5.0),
        ("optax", 4.25),
        ("model_garden", 4.25),
        ("model_garden_outside", 5.25),
        ("timm", 4.75),
        ("flax_2020", 4.25),
    ],
)
def test_what_stands_in_the_buffer_of_lars(variant, end):
    """All are at 6 after one step; the ratios are 2, then 1 or 3/4."""
    w, v = 8.0, 0.0
    for g, rate in ((2.0, 0.5), (3.0, 0.25)):
        w, v, _ = rules.lars(
            np,
            w,
            g,
            v,
            learning_rate=rate,
            momentum=0.5,
            weight_decay=1e-30,  # Next to none; timm needs some to adapt.
            trust_coefficient=0.5,
            variant=LARS_VARIANTS[variant],
        )
    assert_equal(w, end)


@pytest.mark.parametrize("none", [0.0, np.array(0.0)])
def test_the_ratio_of_timm_is_1_without_decay(none):
    w, v, r = rules.lars(
        np,
        8.0,
        2.0,
        1.0,
        learning_rate=0.5,
        momentum=0.5,
        weight_decay=none,
        trust_coefficient=0.5,
        variant=LARS_VARIANTS["timm"],
    )
    assert_equal((w, v, r), (6.75, 2.5, 1.0))


@pytest.mark.parametrize(
    "w, g, mlperf, flax_2020",
    [
        (0.0, 1.0, -1.0, 0.0),  # The ratios: 1, 0.
        (2.0, 0.0, 1.8, 1.9),  # 1, c / lambda.
        (0.0, 0.0, 0.0, 0.0),
    ],
)
def test_lars_where_a_norm_is_zero(w, g, mlperf, flax_2020):
    ends = [
        rules.lars(
            np,
            w,
            g,
            0.0,
            learning_rate=1.0,
            momentum=0.9,
            weight_decay=0.1,
            trust_coefficient=0.05,
            variant=LARS_VARIANTS[variant],
        )[0]
        for variant in ("mlperf", "flax_2020")
    ]
    assert_equal(ends, [mlperf, flax_2020])


ADAM = {"beta_1": 0.5, "beta_2": 0.5, "epsilon": 1.0, "weight_decay": 0.1}


def test_two_steps_of_adam():
    """The directions are 1/2, then (-1/3) / (1 + 1)."""
    w, m, s = 1.0, 0.0, 0.0
    positions = []
    for t, g, rate in ((0.0, 1.0, 0.5), (1.0, -1.0, 0.6)):
        w, m, s = rules.adam(np, w, g, m, s, step=t, learning_rate=rate, **ADAM)
        positions.append(w)
    assert_equal(positions, [0.7, 0.758])
    assert_equal((m, s), (-0.25, 0.75))


def test_adam_without_bias_correction():
    """The direction is (1/2) / (1/2 + 1)."""
    w, _, _ = rules.adam(
        np,
        1.0,
        1.0,
        0.0,
        0.0,
        step=0.0,
        learning_rate=0.5,
        bias_correction=False,
        **{**ADAM, "beta_2": 0.75},
    )
    assert_equal(w, 1 - 0.5 * (1 / 3 + 0.1))


@pytest.mark.parametrize("no_memory", [0, 0.0])
def test_adam_without_memory_steps_by_the_sign(no_memory):
    w, _, _ = rules.adam(
        np,
        np.zeros(2),
        np.array([0.5, -2.0]),
        np.ones(2),
        np.ones(2),
        step=np.float64(3),
        learning_rate=0.25,
        beta_1=no_memory,
        beta_2=no_memory,
        epsilon=0.0,
    )
    assert_equal(w, [-0.25, 0.25])


@pytest.mark.parametrize(
    "variant, g, epsilon, end",
    [
        # The direction is (0.3, 0.4): of norm 1 with the decay added to it.
        ("mlperf", (3 / 7, 2 / 3), 1.0, (2.7, 3.6)),
        ("flax", (3 / 7, 2 / 3), 1.0, (2.7, 3.6)),
        ("keras", (3 / 7, 2 / 3), 1.0, (2.673, 3.564)),
        ("bert_2019", (3 / 7, 2 / 3), 0.1, (2.7, 3.6)),
        # The decay alone; Keras leaves it out of the ratio.
        ("mlperf", (0, 0), 1.0, (2.7, 3.6)),
        ("keras", (0, 0), 1.0, (2.97, 3.96)),
    ],
)
def test_the_first_step_of_lamb(variant, g, epsilon, end):
    published = LAMB_VARIANTS[variant]
    w, *_ = rules.lamb(
        np,
        np.array([3.0, 4.0]),
        np.array(g),
        np.zeros(2),
        np.zeros(2),
        learning_rate=0.1,
        step=0.0,
        beta_1=0.9,
        beta_2=0.99,
        epsilon=epsilon,
        weight_decay=0.1,
        bias_correction=published.bias_correction,
        decay_in_ratio=published.decay_in_ratio,
    )
    assert_equal(w, end)


def test_lamb_moves_what_starts_at_zero_by_the_rate_alone():
    """The ratio is 1 there unless another is asked for."""
    w, *_ = rules.lamb(
        np,
        np.zeros(2),
        np.array([3 / 7, 2 / 3]),
        np.zeros(2),
        np.zeros(2),
        learning_rate=0.1,
        step=0.0,
        beta_1=0.9,
        beta_2=0.99,
        epsilon=1.0,
    )
    assert_equal(w, (-0.03, -0.04))
