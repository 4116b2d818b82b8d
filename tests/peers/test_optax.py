"""The optimizers against optax: sgd, lars, adamw and lamb."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

NOT_DECAYED = ["bias", "gamma"]
NOT_ADAPTED = ["bias", "temperature"]

KERNELS = {"conv/kernel", "table/embeddings", "dense/kernel", "head/kernel"}
FALLBACK = {"dense/bias", "head/temperature"}
EVERY = KERNELS | FALLBACK | {"norm/gamma"}

MOMENTS = {"beta_1": 0.8, "beta_2": 0.98, "epsilon": 1e-3}
OPTAX_MOMENTS = {"b1": 0.8, "b2": 0.98, "eps": 1e-3}


@pytest.fixture(scope="module")
def solve(problem):
    """A function that returns the trajectory of an optax optimizer."""

    def rate(step):
        return jnp.asarray(problem.rates)[step]

    def trajectory(alias, **arguments):
        optimizer = alias(rate, **arguments)

        def take_step(carry, gradients):
            weights, state = carry
            updates, state = optimizer.update(gradients, state, weights)
            weights = optax.apply_updates(weights, updates)
            return (weights, state), weights

        start = problem.start, optimizer.init(problem.start)
        _, weights = jax.lax.scan(take_step, start, problem.gradients)
        return jax.tree.map(np.asarray, weights)

    return trajectory


def all_but(excluded):
    """Returns an optax mask: a function of the tree of parameters."""
    return lambda tree: {
        path: not any(pattern in path for pattern in excluded) for path in tree
    }


@pytest.fixture(scope="module")
def lars(solve):
    return solve(
        optax.lars,
        momentum=0.8,
        weight_decay=0.1,
        weight_decay_mask=all_but(NOT_DECAYED),
        trust_coefficient=0.05,
        trust_ratio_mask=all_but(NOT_ADAPTED),
        eps=0.02,
    )


@pytest.fixture(scope="module")
def adamw(solve):
    mask = all_but(NOT_DECAYED)
    return solve(optax.adamw, weight_decay=0.1, mask=mask, **OPTAX_MOMENTS)


@pytest.fixture(scope="module")
def lamb(solve):
    mask = all_but(NOT_DECAYED)
    return solve(optax.lamb, weight_decay=0.1, mask=mask, **OPTAX_MOMENTS)


@pytest.mark.parametrize("inside, apart", [(False, set()), (True, EVERY)])
@pytest.mark.parametrize("name", ["HeavyBall", "Nesterov"])
def test_sgd_has_the_rate_outside(problem, family, solve, name, inside, apart):
    peer = solve(optax.sgd, momentum=0.8, nesterov=name == "Nesterov")
    optimizer = getattr(family.largebatch, name)(
        1.0, momentum=0.8, learning_rate_in_momentum=inside
    )
    ours = problem.trajectory(family, optimizer)
    assert problem.apart(ours, peer) == apart


@pytest.mark.parametrize("momentum, apart", [(0.0, set()), (0.1, EVERY)])
def test_plain_sgd_is_momentum_0(problem, family, solve, momentum, apart):
    optimizer = family.largebatch.HeavyBall(1.0, momentum=momentum)
    ours = problem.trajectory(family, optimizer)
    assert problem.apart(ours, solve(optax.sgd)) == apart


@pytest.mark.parametrize(
    "variant, apart",
    [
        ("optax", set()),
        ("model_garden", set()),  # Only its library has no epsilon.
        ("mlperf_tf", KERNELS),  # ||g|| + lambda ||w||, not ||g + lambda w||.
        ("mlperf", KERNELS | FALLBACK),
        ("flax_2020", KERNELS | FALLBACK),
        ("contrib_old", EVERY),
        ("timm", EVERY),
        ("model_garden_outside", EVERY),
    ],
)
def test_lars_is_its_variant(problem, family, lars, variant, apart):
    optimizer = family.largebatch.LARS(
        1.0,
        momentum=0.8,
        weight_decay=0.1,
        trust_coefficient=0.05,
        epsilon=0.02,
        exclude_from_layer_adaptation=NOT_ADAPTED,
        exclude_from_weight_decay=NOT_DECAYED,
        variant=variant,
    )
    ours = problem.trajectory(family, optimizer)
    assert problem.apart(ours, lars) == apart


@pytest.mark.parametrize("correction, apart", [(True, set()), (False, EVERY)])
def test_adamw_is_adam(problem, family, adamw, correction, apart):
    optimizer = family.largebatch.Adam(
        **MOMENTS,
        weight_decay=0.1,
        exclude_from_weight_decay=NOT_DECAYED,
        bias_correction=correction,
    )
    ours = problem.trajectory(family, optimizer)
    assert problem.apart(ours, adamw) == apart


@pytest.mark.parametrize(
    "variant, apart",
    [
        ("mlperf", set()),
        ("keras", KERNELS | {"head/temperature"}),  # What is decayed.
        ("flax", {"dense/bias", "head/kernel"}),  # What starts at zero.
        # A ratio takes the scale of the update out of a scalar.
        ("bert_2019", EVERY - {"head/temperature"}),
    ],
)
def test_lamb_is_the_default_variant(problem, family, lamb, variant, apart):
    optimizer = family.largebatch.LAMB(
        **MOMENTS,
        weight_decay=0.1,
        exclude_from_layer_adaptation=(),  # optax.lamb adapts everything.
        exclude_from_weight_decay=NOT_DECAYED,
        variant=variant,
    )
    ours = problem.trajectory(family, optimizer)
    assert problem.apart(ours, lamb) == apart


def test_the_variants_have_the_epsilon_of_optax(family):
    lars = family.largebatch.LARS(1.0, variant="optax")
    assert lars.epsilon == default(optax.lars, "eps")
    assert family.largebatch.LAMB().epsilon == default(optax.lamb, "eps")


def default(function, argument):
    return inspect.signature(function).parameters[argument].default
