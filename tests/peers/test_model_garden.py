"""The optimizers against the Model Garden's LARS, LAMB and AdamWeightDecay."""

import inspect

import numpy as np
import pytest
from official.modeling.optimization.lamb import LAMB
from official.modeling.optimization.lars import LARS
from official.modeling.optimization.legacy_adamw import AdamWeightDecay

# Neither is empty: an empty list would fall back to the other one.
LISTS = {
    "exclude_from_weight_decay": ["bias", "gamma"],
    "exclude_from_layer_adaptation": ["bias", "temperature"],
}

KERNELS = {"conv/kernel", "table/embeddings", "dense/kernel", "head/kernel"}
FALLBACK = {"dense/bias", "head/temperature"}
DECAYED = KERNELS | {"head/temperature"}
EVERY = KERNELS | FALLBACK | {"norm/gamma"}

MOMENTS = {"beta_1": 0.8, "beta_2": 0.98}


@pytest.fixture(scope="module")
def solve(problem, families):
    """A function that returns the trajectory of a Model Garden optimizer."""
    return lambda optimizer: problem.trajectory(families["tf_keras"], optimizer)


@pytest.fixture(scope="module")
def lars(solve):
    """Trajectories by classic_momentum."""
    arguments = {"momentum": 0.8, "weight_decay_rate": 0.1, "eeta": 0.05}
    return {
        classic: solve(LARS(classic_momentum=classic, **arguments, **LISTS))
        for classic in (True, False)
    }


def our_lars(family, **arguments):
    return family.largebatch.LARS(
        1.0,
        momentum=0.8,
        weight_decay=0.1,
        trust_coefficient=0.05,
        epsilon=0.0,
        **arguments,
    )


@pytest.mark.parametrize(
    "classic, variant, apart",
    [
        (True, "model_garden", set()),
        (True, "optax", set()),
        (True, "mlperf_tf", KERNELS),  # ||g|| + lambda ||w|| in the ratio.
        (True, "mlperf", KERNELS | FALLBACK),
        (True, "flax_2020", KERNELS | FALLBACK),
        (True, "contrib_old", EVERY),
        (True, "timm", EVERY),
        (True, "model_garden_outside", EVERY),
        (False, "model_garden_outside", set()),
        (False, "contrib_old", EVERY - {"dense/bias"}),  # No decay.
        (False, "timm", EVERY - FALLBACK),
        (False, "mlperf", EVERY - FALLBACK),
        (False, "model_garden", EVERY),
    ],
)
def test_lars_is_its_variant(problem, family, lars, classic, variant, apart):
    optimizer = our_lars(family, **LISTS, variant=variant)
    ours = problem.trajectory(family, optimizer)
    assert problem.apart(ours, lars[classic]) == apart


@pytest.mark.parametrize(
    "adaptation, apart",
    [(["bias", "gamma"], set()), ((), {"dense/bias", "norm/gamma"})],
)
def test_only_the_garden_lets_one_list_of_lars_stand_for_both(
    problem, family, solve, adaptation, apart
):
    one = {"exclude_from_weight_decay": ["bias", "gamma"]}
    arguments = {"momentum": 0.8, "weight_decay_rate": 0.1, "eeta": 0.05}
    optimizer = our_lars(
        family,
        **one,
        exclude_from_layer_adaptation=adaptation,
        variant="model_garden",
    )
    ours = problem.trajectory(family, optimizer)
    assert problem.apart(ours, solve(LARS(**arguments, **one))) == apart


@pytest.fixture(scope="module")
def lamb(solve):
    return solve(LAMB(**MOMENTS, epsilon=1e-3, weight_decay_rate=0.1, **LISTS))


@pytest.mark.parametrize(
    "variant, apart",
    [
        ("mlperf", set()),
        ("keras", KERNELS),
        ("flax", {"head/kernel"}),  # Starts at zero and is adapted.
        ("bert_2019", EVERY),
    ],
)
def test_lamb_is_the_default_variant(problem, family, lamb, variant, apart):
    optimizer = family.largebatch.LAMB(
        **MOMENTS, epsilon=1e-3, weight_decay=0.1, **LISTS, variant=variant
    )
    ours = problem.trajectory(family, optimizer)
    assert problem.apart(ours, lamb) == apart


def test_the_variant_has_the_epsilon_of_lamb(family):
    default = inspect.signature(LAMB).parameters["epsilon"].default
    assert family.largebatch.LAMB().epsilon == default


@pytest.fixture(scope="module")
def adam_weight_decay(solve):
    optimizer = AdamWeightDecay(
        **MOMENTS,
        epsilon=1e-3,
        weight_decay_rate=0.1,
        exclude_from_weight_decay=["bias", "gamma"],
    )
    return solve(optimizer)


@pytest.mark.parametrize(
    "arguments, apart",
    [
        ({}, set()),
        ({"global_clipnorm": 2.0}, EVERY),
        ({"bias_correction": False}, EVERY),  # The BERT code base.
    ],
)
def test_adam_weight_decay_is_clipped_adam_with_the_root_uncorrected(
    problem, family, adam_weight_decay, arguments, apart
):
    arguments = {"global_clipnorm": 1.0, **arguments}
    optimizer = family.largebatch.Adam(
        **MOMENTS,
        weight_decay=0.1,
        exclude_from_weight_decay=["bias", "gamma"],
        **arguments,
    )
    steps = np.arange(len(problem.rates)) + 1
    corrected = 1e-3 / np.sqrt(1 - MOMENTS["beta_2"] ** steps)
    ours = problem.trajectory(family, optimizer, epsilon=corrected)
    assert problem.apart(ours, adam_weight_decay) == apart


def test_adam_weight_decay_has_not_the_epsilon_of_adam(
    problem, family, adam_weight_decay
):
    optimizer = family.largebatch.Adam(
        **MOMENTS,
        epsilon=1e-3,
        weight_decay=0.1,
        exclude_from_weight_decay=["bias", "gamma"],
        global_clipnorm=1.0,
    )
    ours = problem.trajectory(family, optimizer)
    assert problem.apart(ours, adam_weight_decay) == EVERY
