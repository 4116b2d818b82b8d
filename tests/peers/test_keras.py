"""The optimizers against those of Keras 3 and tf_keras."""

import inspect

import keras
import numpy as np
import pytest

NOT_DECAYED = ["bias", "gamma"]

KERNELS = {"conv/kernel", "table/embeddings", "dense/kernel", "head/kernel"}
DECAYED = KERNELS | {"head/temperature"}
EVERY = DECAYED | {"dense/bias", "norm/gamma"}

MOMENTS = {"beta_1": 0.8, "beta_2": 0.98}


@pytest.mark.parametrize("inside, apart", [(True, set()), (False, EVERY)])
@pytest.mark.parametrize("name", ["HeavyBall", "Nesterov"])
def test_sgd_has_the_rate_inside(problem, family, name, inside, apart):
    sgd = family.keras.optimizers.SGD(momentum=0.8, nesterov=name == "Nesterov")
    optimizer = getattr(family.largebatch, name)(
        1.0, momentum=0.8, learning_rate_in_momentum=inside
    )
    peer = problem.trajectory(family, sgd)
    ours = problem.trajectory(family, optimizer)
    assert problem.apart(ours, peer) == apart


@pytest.fixture
def adamw(problem, family):
    """A function that returns the trajectory of Keras's AdamW."""

    def trajectory(epsilon):
        optimizer = family.keras.optimizers.AdamW(
            **MOMENTS, epsilon=epsilon, weight_decay=0.1
        )
        optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
        return problem.trajectory(family, optimizer)

    return trajectory


@pytest.fixture
def adam(family):
    """A function that returns this package's Adam with AdamW's arguments."""

    def optimizer(**arguments):
        return family.largebatch.Adam(
            **MOMENTS,
            weight_decay=0.1,
            exclude_from_weight_decay=NOT_DECAYED,
            **arguments,
        )

    return optimizer


@pytest.mark.parametrize("correction, apart", [(True, set()), (False, EVERY)])
def test_adamw_is_adam_where_epsilon_is_negligible(
    problem, family, adamw, adam, correction, apart
):
    optimizer = adam(epsilon=1e-12, bias_correction=correction)
    ours = problem.trajectory(family, optimizer)
    assert problem.apart(ours, adamw(epsilon=1e-12)) == apart


@pytest.mark.parametrize("epsilon", [1e-7, 1e-3])
def test_adamw_adds_epsilon_to_the_uncorrected_root(
    problem, family, adamw, adam, epsilon
):
    steps = np.arange(len(problem.rates)) + 1
    corrected = epsilon / np.sqrt(1 - MOMENTS["beta_2"] ** steps)
    ours = problem.trajectory(family, adam(), epsilon=corrected)
    assert problem.apart(ours, adamw(epsilon)) == set()


def test_adamw_has_not_the_epsilon_of_adam(problem, family, adamw, adam):
    ours = problem.trajectory(family, adam(epsilon=1e-3))
    assert problem.apart(ours, adamw(epsilon=1e-3)) == EVERY


@pytest.fixture(scope="module")
def lamb(problem, families):
    optimizer = keras.optimizers.Lamb(**MOMENTS, epsilon=1e-3, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return problem.trajectory(families["keras"], optimizer)


@pytest.mark.parametrize(
    "variant, apart",
    [
        ("keras", set()),
        ("mlperf", DECAYED),
        ("flax", DECAYED | {"dense/bias"}),
        ("bert_2019", EVERY),
    ],
)
def test_lamb_is_its_variant(problem, family, lamb, variant, apart):
    optimizer = family.largebatch.LAMB(
        **MOMENTS,
        epsilon=1e-3,
        weight_decay=0.1,
        exclude_from_layer_adaptation=(),  # Keras's Lamb adapts everything.
        exclude_from_weight_decay=NOT_DECAYED,
        variant=variant,
    )
    ours = problem.trajectory(family, optimizer)
    assert problem.apart(ours, lamb) == apart


def test_the_variant_has_the_epsilon_of_lamb(family):
    default = inspect.signature(keras.optimizers.Lamb).parameters["epsilon"]
    assert family.largebatch.LAMB(variant="keras").epsilon == default.default
