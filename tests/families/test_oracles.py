"""32 steps of every optimizer against float64 NumPy, with XLA and without."""

import contextlib
import inspect
import runpy
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_largebatch.keras

ORACLES = runpy.run_path(str(Path(__file__).parents[1] / "oracles.py"))
ORACLE_OF = {
    "HeavyBall": ORACLES["heavy_ball"],
    "Nesterov": ORACLES["nesterov"],
    "LARS": ORACLES["lars"],
    "Adam": ORACLES["adam"],
    "LAMB": ORACLES["lamb"],
}

STEPS = 32
WARMUP_STEPS = 8
ZERO = 0.0
SOMETIMES = "zero in some steps"


class Variable(NamedTuple):
    """A variable's shape, and the scales of its start and gradients."""

    shape: tuple[int, ...]
    start: float = 1.0
    gradient: float | str = 1.0


# Tiny gradients, of the size of LAMB's epsilon, show where epsilon stands.
VARIABLES = {
    "temperature": Variable(()),
    "norm/gamma": Variable((5,)),
    "dense/bias": Variable((3,), start=ZERO),
    "dense/kernel": Variable((4, 3), gradient=30.0),
    "attention/query/bias": Variable((2, 3), start=ZERO),
    "bias/kernel": Variable((3, 2), gradient=0.03),
    "embedding/embeddings": Variable((6, 2), gradient=SOMETIMES),
    "conv1d/kernel": Variable((3, 2, 2), start=ZERO),
    "conv2d/kernel": Variable((3, 3, 2, 2)),
    "unused/kernel": Variable((2, 2), gradient=ZERO),
    "unused/bias": Variable((2,), start=ZERO, gradient=ZERO),
    "tiny/kernel": Variable((2, 3), start=1e-5, gradient=1e-6),
}


class Selection(NamedTuple):
    """A selector and, written by hand, what it selects."""

    selector: object
    paths: frozenset[str]


def is_matrix(path, shape):
    return len(shape) == 2


BIAS_AND_NORM = Selection(
    "bias_and_norm",
    frozenset(
        {
            "temperature",
            "norm/gamma",
            "dense/bias",
            "attention/query/bias",
            "unused/bias",
        }
    ),
)
NOTHING = Selection((), frozenset())
CONVOLUTIONS = Selection(
    ["^conv", "gamma$"],
    frozenset({"conv1d/kernel", "conv2d/kernel", "norm/gamma"}),
)
MATRICES = Selection(
    is_matrix,
    frozenset(
        {
            "dense/kernel",
            "attention/query/bias",
            "bias/kernel",
            "embedding/embeddings",
            "unused/kernel",
            "tiny/kernel",
        }
    ),
)
DENSE = Selection(["dense"], frozenset({"dense/bias", "dense/kernel"}))

PURE = {
    "exclude_from_layer_adaptation": NOTHING,
    "exclude_from_weight_decay": NOTHING,
}

APART = {
    "exclude_from_layer_adaptation": CONVOLUTIONS,
    "exclude_from_weight_decay": DENSE,
}

MOMENTUM = {
    "learning_rate": 0.1,
    "momentum": 0.8,
    "weight_decay": 0.05,
    "exclude_from_weight_decay": CONVOLUTIONS,
}

LARS = {
    "learning_rate": 2.0,
    "momentum": 0.8,
    "weight_decay": 0.05,
    "trust_coefficient": 0.02,
}

ADAM = {
    "learning_rate": 0.1,
    "beta_1": 0.8,
    "beta_2": 0.998,
    "epsilon": 0.01,
    "weight_decay": 0.1,
    "exclude_from_weight_decay": CONVOLUTIONS,
}

LAMB = {"learning_rate": 0.1, "weight_decay": 0.1}

LAMB_ALL = {
    **ADAM,
    "exclude_from_layer_adaptation": MATRICES,
    "exclude_from_weight_decay": DENSE,
    "bias_correction": False,
    "zero_norm_ratio": 0.5,
    "fallback_epsilon": 0.1,
}

CASES = {
    "HeavyBall defaults": {"learning_rate": 0.1},
    "HeavyBall outside": MOMENTUM,
    "HeavyBall all": {**MOMENTUM, "learning_rate_in_momentum": True},
    "Nesterov defaults": {"learning_rate": 0.1},
    "Nesterov outside": MOMENTUM,
    "Nesterov all": {**MOMENTUM, "learning_rate_in_momentum": True},
    "LARS defaults": {"learning_rate": 20.0},
    "LARS pure": {**LARS, **PURE},
    "LARS pure model_garden": {**LARS, **PURE, "variant": "model_garden"},
    "LARS all": {**LARS, **APART, "epsilon": 1e-5, "variant": "timm"},
    "Adam defaults": {"learning_rate": 0.1},
    "Adam corrected": ADAM,
    "Adam all": {**ADAM, "bias_correction": False},
    "LAMB defaults": {"learning_rate": 0.1},
    "LAMB pure": {**LAMB, **PURE},
    "LAMB pure flax": {**LAMB, **PURE, "variant": "flax"},
    "LAMB fallback": {**LAMB, **APART, "fallback_epsilon": 0.1},
    "LAMB all": {**LAMB_ALL, "variant": "keras"},
}
for variant in ORACLES["LARS_STEPS"]:
    CASES[f"LARS {variant}"] = {**LARS, **APART, "variant": variant}
for variant in ORACLES["LAMB_VARIANTS"]:
    CASES[f"LAMB {variant}"] = {**LAMB, **APART, "variant": variant}

# Fewer, because XLA takes a second for each of them.
CASES_WITH_XLA = [
    "HeavyBall all",
    "Nesterov all",
    "LARS all",
    "LARS model_garden_outside",
    "Adam corrected",
    "Adam all",
    "LAMB mlperf",
    "LAMB all",
]
CASES_WITH_VARIABLES = [
    "HeavyBall all",
    "Nesterov all",
    "LARS all",
    "Adam corrected",
    "LAMB all",
]


@pytest.fixture(scope="module")
def starts():
    rng = np.random.default_rng(1)
    return {
        path: np.float32(variable.start * rng.normal(size=variable.shape))
        for path, variable in VARIABLES.items()
    }


@pytest.fixture(scope="module")
def gradients():
    """The gradients of each variable, the step in front."""
    rng = np.random.default_rng(2)

    def draw(variable):
        values = rng.normal(size=(STEPS, *variable.shape))
        if variable.gradient == SOMETIMES:
            values[::3] = 0
        else:
            values *= variable.gradient
        return np.float32(values)

    return {path: draw(variable) for path, variable in VARIABLES.items()}


def rates_up_to(peak):
    """Returns the rate of every step: linear warmup, quadratic decay."""
    steps = np.arange(STEPS)
    warmup = peak * (0.1 + 0.9 * steps / WARMUP_STEPS)
    left = (STEPS - steps) / (STEPS - WARMUP_STEPS)
    return np.where(steps <= WARMUP_STEPS, warmup, peak * left**2)


def selections_of(arguments):
    return {
        key: value
        for key, value in arguments.items()
        if isinstance(value, Selection)
    }


def ends_by_oracle(case, starts, gradients):
    """Returns where the oracle ends, of the same float32 inputs."""
    name = case.split()[0]
    numbers = dict(CASES[case])
    rates = rates_up_to(numbers.pop("learning_rate"))

    def unless_excluded(argument):
        selection = numbers.pop(argument, BIAS_AND_NORM)
        return {path: path not in selection.paths for path in starts}

    applies = {"decayed": unless_excluded("exclude_from_weight_decay")}
    if name in ("LARS", "LAMB"):
        applies["adapted"] = unless_excluded("exclude_from_layer_adaptation")
    return {
        path: ORACLE_OF[name](
            np.float64(starts[path]),
            np.float64(gradients[path]),
            rates,
            **{key: by_path[path] for key, by_path in applies.items()},
            **numbers,
        )
        for path in starts
    }


def create(family, case, **others):
    """Returns a case's optimizer, but for the arguments given here."""
    arguments = {**CASES[case], **others}
    for key, selection in selections_of(arguments).items():
        arguments[key] = selection.selector
    return getattr(family.largebatch, case.split()[0])(**arguments)


def scheduled(family, case):
    """Returns a case's optimizer with a rate that changes at every step."""
    peak = CASES[case]["learning_rate"]
    schedule = family.largebatch.PiecewisePolynomial(
        peak, STEPS, WARMUP_STEPS, initial=0.1 * peak
    )
    return create(family, case, learning_rate=schedule)


def variable(family, path, value):
    """Returns a variable that lies where ``path`` says."""
    *scopes, name = path.split("/")
    with contextlib.ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(keras.name_scope(scope))
        return family.variable(value, name)


def ends_by_optimizer(
    family, optimizer, starts, gradients, jit_compile=False, before_step=None
):
    """Returns where the optimizer ends; its step is traced once."""
    variables = [variable(family, *item) for item in starts.items()]
    optimizer.build(variables)

    @tf.function(jit_compile=jit_compile)
    def step(gradients):
        optimizer.apply_gradients(zip(gradients, variables))

    for t in range(STEPS):
        if before_step is not None:
            before_step(t)
        step([tf.constant(gradients[path][t]) for path in starts])
    assert step.experimental_get_tracing_count() == 1
    return {path: w.numpy() for path, w in zip(starts, variables)}


def assert_near(ends, expected, starts):
    """Checks the errors relative to the distance moved; 0 where that is 0."""
    for path, end in expected.items():
        error = np.linalg.norm(ends[path] - end)
        distance = np.linalg.norm(end - starts[path])
        assert error <= 3e-5 * distance, f"{path}: {error=}, {distance=}"


@pytest.mark.parametrize("case", CASES)
def test_graph_mode(family, case, starts, gradients):
    optimizer = scheduled(family, case)
    ends = ends_by_optimizer(family, optimizer, starts, gradients)
    assert_near(ends, ends_by_oracle(case, starts, gradients), starts)


@pytest.mark.parametrize("case", CASES_WITH_XLA)
def test_with_xla(family, case, starts, gradients):
    optimizer = scheduled(family, case)
    ends = ends_by_optimizer(
        family, optimizer, starts, gradients, jit_compile=True
    )
    assert_near(ends, ends_by_oracle(case, starts, gradients), starts)


@pytest.mark.parametrize("case", CASES_WITH_VARIABLES)
def test_hyperparameters_may_be_variables(family, case, starts, gradients):
    numbers = {
        key: value
        for key, value in CASES[case].items()
        if isinstance(value, float)
    }
    variables = {key: family.variable(0.5, key) for key in numbers}
    rates = rates_up_to(numbers["learning_rate"])

    def assign(t):
        for key, value in {**numbers, "learning_rate": rates[t]}.items():
            variables[key].assign(value)

    ends = ends_by_optimizer(
        family,
        create(family, case, **variables),
        starts,
        gradients,
        before_step=assign,
    )

    assert_near(ends, ends_by_oracle(case, starts, gradients), starts)


@pytest.mark.parametrize("cases", [CASES, CASES_WITH_XLA])
def test_every_argument_occurs_at_another_value_than_its_default(name, cases):
    constructor = getattr(tf_largebatch.keras, name)
    defaults = constructor(learning_rate=1.0).get_config()
    parameters = inspect.signature(constructor).parameters.values()

    at_default = [
        parameter.name
        for parameter in parameters
        if parameter.kind is not parameter.VAR_KEYWORD
        and all(
            CASES[case].get(parameter.name, defaults[parameter.name])
            == defaults[parameter.name]
            for case in cases
            if case.split()[0] == name
        )
    ]

    assert not at_default
