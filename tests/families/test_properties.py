"""What follows from the formulas: invariances, limits and equalities.

Nearly all are equalities to the last bit, since scaling by a power of two
rounds nothing and equal operations give equal results.
"""

import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch.rules import LARS_VARIANTS

STEPS = 6
FALLBACK_RATE_INSIDE = {"mlperf_tf", "optax", "model_garden"}

STARTS = {
    "kernel": np.float32([[3, -1], [0.5, 2], [1, 1]]),
    "bias": np.float32([0.25, -0.5]),
}
ZEROS = {path: np.zeros_like(start) for path, start in STARTS.items()}

PURE = {"exclude_from_layer_adaptation": (), "exclude_from_weight_decay": ()}
PURE_LARS = {"learning_rate": 0.5, "trust_coefficient": 0.1, **PURE}
UNADAPTED = {"exclude_from_layer_adaptation": [".*"]}


@pytest.fixture(scope="module")
def gradients():
    """The gradients of every variable, the step in front."""
    rng = np.random.default_rng(3)
    return {
        path: rng.normal(size=(STEPS, *start.shape)).astype("float32")
        for path, start in STARTS.items()
    }


@pytest.fixture
def falling(family):
    """A schedule from 0.5 to nearly 0."""
    return family.largebatch.Cosine(peak=0.5, total_steps=STEPS)


@pytest.fixture
def run(family, gradients):
    """A function that returns every variable's positions, one a step."""

    def positions(optimizer, starts=STARTS, gradients=gradients):
        variables = [
            family.variable(starts[path], name=path) for path in gradients
        ]
        found = []
        for values in zip(*gradients.values()):
            optimizer.apply_gradients(zip(map(tf.constant, values), variables))
            found.append([variable.numpy() for variable in variables])
        return dict(zip(gradients, map(np.array, zip(*found))))

    return positions


@pytest.fixture
def run_from(family):
    """A function that sets one variable before each step, and says where to.

    It returns the positions after the steps.
    """

    def positions(optimizer, places, gradients):
        variable = family.variable(np.zeros_like(places[0]))
        found = []
        for place, gradient in zip(places, gradients):
            variable.assign(place)
            optimizer.apply_gradients([(tf.constant(gradient), variable)])
            found.append(variable.numpy())
        return np.array(found)

    return positions


def scaled(arrays, factor):
    return {
        path: np.float32(factor) * values for path, values in arrays.items()
    }


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for path, positions in first.items():
        np.testing.assert_array_equal(positions, second[path], err_msg=path)


def gap(first, second):
    """Returns the least distance between the ends, relative to that moved."""
    return min(
        np.linalg.norm(first[path][-1] - second[path][-1])
        / np.linalg.norm(first[path][-1] - STARTS[path])
        for path in first
    )


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**-12, 2.0**12, 2.0**40])
@pytest.mark.parametrize(
    "variant, weight_decay",
    [
        *((variant, 0.1) for variant in LARS_VARIANTS),
        # timm adapts nothing without decay.
        *((variant, 0.0) for variant in LARS_VARIANTS if variant != "timm"),
    ],
)
def test_lars_ignores_the_scale_of_gradient_and_decay(
    family, run, gradients, variant, weight_decay, scale
):
    def optimizer(weight_decay):
        return family.largebatch.LARS(
            **PURE_LARS, weight_decay=weight_decay, epsilon=0, variant=variant
        )

    plain = run(optimizer(weight_decay))
    other = run(
        optimizer(scale * weight_decay), gradients=scaled(gradients, scale)
    )

    assert_equal(plain, other)


@pytest.mark.parametrize(
    "arguments", [{"weight_decay": 0.1}, {"weight_decay": 0, "epsilon": 0.1}]
)
def test_decay_and_epsilon_give_lars_a_scale(family, run, gradients, arguments):
    def optimizer():
        return family.largebatch.LARS(**PURE_LARS, **arguments)

    other = run(optimizer(), gradients=scaled(gradients, 8))

    assert gap(run(optimizer()), other) > 0.01


@pytest.mark.parametrize("scale", [2.0**-12, 2.0**12])
@pytest.mark.parametrize("optimizer_name", ["Adam", "LAMB"])
def test_adam_and_lamb_ignore_the_gradients_scale_at_epsilon_0(
    family, run, gradients, optimizer_name, scale
):
    def optimizer(epsilon):
        return family.optimizer(
            optimizer_name, epsilon=epsilon, weight_decay=0.1
        )

    other_gradients = scaled(gradients, scale)

    assert_equal(run(optimizer(0)), run(optimizer(0), STARTS, other_gradients))
    other = run(optimizer(0.01), gradients=other_gradients)
    assert gap(run(optimizer(0.01)), other) > 1e-3


def test_the_first_step_of_adam_is_the_rate(family, run):
    """Which it is not where 1 - 0.999 cancels in float32."""
    ends = run(family.largebatch.Adam(0.25, epsilon=0), ZEROS)
    for positions in ends.values():
        np.testing.assert_allclose(np.abs(positions[0]), 0.25, rtol=1e-6)


def test_the_first_step_of_lars_is_a_fixed_part_of_the_norm(family, run):
    ends = run(family.largebatch.LARS(**PURE_LARS, weight_decay=0))
    for path, start in STARTS.items():
        step = np.linalg.norm(ends[path][0] - start)
        np.testing.assert_allclose(
            step, 0.5 * 0.1 * np.linalg.norm(start), rtol=1e-6
        )


@pytest.mark.parametrize("variant", ["mlperf", "flax", "bert_2019"])
def test_every_step_of_lamb_is_a_fixed_part_of_the_norm(family, run, variant):
    ends = run(family.largebatch.LAMB(0.125, **PURE, variant=variant))
    for path, start in STARTS.items():
        positions = np.array([start, *ends[path]])
        norms = [np.linalg.norm(position) for position in positions]
        steps = [np.linalg.norm(step) for step in np.diff(positions, axis=0)]
        np.testing.assert_allclose(
            steps, 0.125 * np.array(norms[:-1]), rtol=2e-6
        )


@pytest.mark.parametrize("places", ["zero", "the direction"])
def test_lamb_is_adam_where_every_ratio_is_1(
    family, run_from, gradients, places
):
    """At zero by definition; where w is the direction its norm is u's."""
    largebatch, gradients = family.largebatch, gradients["kernel"]
    starts = np.zeros_like(gradients)
    if places == "the direction":
        unit_steps = largebatch.Adam(1.0, epsilon=1e-6)
        starts = -run_from(unit_steps, starts, gradients)

    lamb = largebatch.LAMB(0.3, weight_decay=0)
    adam = largebatch.Adam(0.3, epsilon=1e-6)

    # Adam's kernel multiplies by the rate before it divides by the root, and
    # LAMB's after it: a rounding or two of the largest value.
    np.testing.assert_allclose(
        run_from(lamb, starts, gradients),
        run_from(adam, starts, gradients),
        rtol=0,
        atol=1.2e-7,
    )


@pytest.mark.parametrize(
    "lamb, adam",
    [
        ({"weight_decay": 0.0}, {}),
        ({"weight_decay": 0.1}, {"weight_decay": 0.1}),
        ({"epsilon": 0.1}, {"epsilon": 0.1, "weight_decay": 0.01}),
        (
            {"epsilon": 0.1, "fallback_epsilon": 0.0},
            {"epsilon": 0.0, "weight_decay": 0.01},
        ),
        (
            {"weight_decay": 0.1, "exclude_from_weight_decay": ()},
            {"weight_decay": 0.1, "exclude_from_weight_decay": ()},
        ),
        ({"variant": "keras", "weight_decay": 0.0}, {"epsilon": 1e-7}),
        (
            {"variant": "bert_2019", "weight_decay": 0.0},
            {"bias_correction": False},
        ),
    ],
)
def test_lamb_without_adaptation_is_adam(family, run, falling, lamb, adam):
    lamb = family.largebatch.LAMB(falling, **UNADAPTED, **lamb)
    adam = family.largebatch.Adam(falling, **{"epsilon": 1e-6, **adam})
    assert_equal(run(lamb), run(adam))


@pytest.mark.parametrize("variant", LARS_VARIANTS)
def test_lars_without_adaptation_is_heavy_ball(family, run, falling, variant):
    lars = family.largebatch.LARS(
        falling, 0.8, weight_decay=0.1, **UNADAPTED, variant=variant
    )
    heavy_ball = family.largebatch.HeavyBall(
        falling,
        0.8,
        weight_decay=0.0 if variant == "contrib_old" else 0.1,
        learning_rate_in_momentum=variant in FALLBACK_RATE_INSIDE,
    )
    assert_equal(run(lars), run(heavy_ball))


@pytest.mark.parametrize("unadapted", [(), ["kernel"], [".*"]])
def test_contrib_old_leaves_all_decay_to_the_loss(
    family, run, gradients, unadapted
):
    lars = family.largebatch.LARS(
        0.5,
        weight_decay=0.1,
        exclude_from_layer_adaptation=unadapted,
        exclude_from_weight_decay=(),
        variant="contrib_old",
    )
    ends = run(lars, gradients=scaled(gradients, 0))
    for path, start in STARTS.items():
        np.testing.assert_array_equal(ends[path][-1], start)


def test_timm_adapts_nothing_without_decay(family, run, falling):
    undecayed = {"weight_decay": 0.1, **PURE, "exclude_from_weight_decay": [""]}
    heavy_ball = run(family.largebatch.HeavyBall(falling))
    held = {"weight_decay": family.variable(0.0, "decay"), **PURE}
    for arguments in (undecayed, {"weight_decay": 0, **PURE}, held):
        timm = family.largebatch.LARS(falling, 0.9, variant="timm", **arguments)
        assert_equal(run(timm), heavy_ball)


INSIDE_AND_OUTSIDE = [
    (
        "HeavyBall",
        {"learning_rate_in_momentum": True},
        {"learning_rate_in_momentum": False},
    ),
    (
        "Nesterov",
        {"learning_rate_in_momentum": True},
        {"learning_rate_in_momentum": False},
    ),
    (
        "LARS",
        {"variant": "mlperf_tf", "exclude_from_weight_decay": ()},
        {"variant": "timm", "epsilon": 0, "exclude_from_weight_decay": ()},
    ),
]


@pytest.mark.parametrize("optimizer_name, inside, outside", INSIDE_AND_OUTSIDE)
def test_the_place_of_the_rate_matters_only_where_it_changes(
    family, run, falling, optimizer_name, inside, outside
):
    def ends(rate, place):
        arguments = {"learning_rate": rate, "weight_decay": 0.1, **place}
        return run(family.optimizer(optimizer_name, **arguments))

    assert_equal(ends(0.125, inside), ends(0.125, outside))
    assert gap(ends(falling, inside), ends(falling, outside)) > 0.1


@pytest.mark.parametrize("variant", LARS_VARIANTS)
def test_what_starts_at_zero_under_lars(family, run, gradients, variant):
    optimizer = family.largebatch.LARS(
        **PURE_LARS, weight_decay=0.1, variant=variant
    )
    positions = run(optimizer, ZEROS)
    for path, values in positions.items():
        if variant == "flax_2020":
            np.testing.assert_array_equal(values, np.zeros_like(values))
        else:
            first_step = -np.float32(0.5) * gradients[path][0]
            np.testing.assert_allclose(values[0], first_step, rtol=3e-7)


@pytest.mark.parametrize(
    "arguments, ratio",
    [
        ({}, 1),
        ({"variant": "keras"}, 1),
        ({"variant": "flax"}, 0),
        ({"zero_norm_ratio": 0.0}, 0),
        ({"zero_norm_ratio": 0.5}, 0.5),
        ({"variant": "flax", "zero_norm_ratio": 1.0}, 1),
    ],
)
def test_what_starts_at_zero_under_lamb(family, run, arguments, ratio):
    lamb = family.largebatch.LAMB(0.5, epsilon=1e-3, **PURE, **arguments)
    adam = family.largebatch.Adam(0.5, epsilon=1e-3)
    expected = run(adam, ZEROS)
    for path, values in run(lamb, ZEROS).items():
        first_step = np.float32(ratio) * expected[path][0]
        np.testing.assert_allclose(values[0], first_step, rtol=3e-7)
        assert ratio or not values.any()


@pytest.mark.parametrize(
    "variant, shrinks_by", [("mlperf", 0.5 * 0.125), ("flax_2020", 0.5 * 0.25)]
)
def test_decay_alone_moves_a_variable_without_gradient(
    family, run, gradients, variant, shrinks_by
):
    """The ratio is 1, or c / lambda = 2 in the older Flax."""
    optimizer = family.largebatch.LARS(
        **{**PURE_LARS, "trust_coefficient": 0.25},
        weight_decay=0.125,
        variant=variant,
    )
    positions = run(optimizer, gradients=scaled(gradients, 0))
    for path, start in STARTS.items():
        expected = start * np.float32(1 - shrinks_by)
        np.testing.assert_allclose(positions[path][0], expected, rtol=1e-6)


@pytest.mark.parametrize("adaptive", ["LARS", "LAMB"])
def test_an_empty_selector_of_adaptation_selects_nothing(family, run, adaptive):
    """Not what the other selector excludes: that is adapted, not decayed."""

    def biases(weight_decay, **selectors):
        optimizer = family.optimizer(
            adaptive, weight_decay=weight_decay, **selectors
        )
        return run(optimizer)["bias"]

    undecayed = {**PURE, "exclude_from_weight_decay": ["bias$"]}

    found = biases(0.1, **undecayed)

    np.testing.assert_array_equal(found, biases(0.0, **PURE))
    assert np.any(found != biases(0.1, **PURE))


@pytest.mark.parametrize(
    "adaptive, fallback, arguments",
    [
        ("LARS", "HeavyBall", {"momentum": 0.9}),
        ("LAMB", "Adam", {"epsilon": 1e-6}),
    ],
)
def test_an_empty_selector_of_decay_selects_nothing(
    family, run, adaptive, fallback, arguments
):
    """Not what the other selector excludes: that is decayed, not adapted."""
    shared = {
        "learning_rate": 0.25,
        "weight_decay": 0.1,
        "exclude_from_weight_decay": (),
        **arguments,
    }
    unadapted = {"exclude_from_layer_adaptation": ["bias$"]}

    found = run(family.optimizer(adaptive, **shared, **unadapted))["bias"]

    expected = run(family.optimizer(fallback, **shared))["bias"]
    np.testing.assert_array_equal(found, expected)


def test_the_order_of_the_variables_does_not_matter(
    family, run, gradients, name
):
    backwards = dict(reversed(gradients.items()))
    assert_equal(
        run(family.optimizer(name)),
        run(family.optimizer(name), gradients=backwards),
    )


@pytest.mark.parametrize("optimizer_name", ["HeavyBall", "Nesterov"])
def test_decay_is_the_gradient_of_half_lambda_norm_squared(
    family, run, falling, gradients, optimizer_name
):
    constructor = getattr(family.largebatch, optimizer_name)
    decayed = run(
        constructor(falling, weight_decay=0.1, exclude_from_weight_decay=())
    )

    optimizer = constructor(falling)
    w = family.variable(STARTS["kernel"])
    for t, gradient in enumerate(gradients["kernel"]):
        with tf.GradientTape() as tape:
            value = tf.convert_to_tensor(w)
            tape.watch(value)
            penalty = 0.05 * tf.reduce_sum(tf.square(value))
        gradient += tape.gradient(penalty, value)
        optimizer.apply_gradients([(gradient, w)])
        np.testing.assert_array_equal(w.numpy(), decayed["kernel"][t])
