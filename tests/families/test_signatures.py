"""The constructors' keyword names and defaults, as users rely on them."""

import inspect

import pytest

BIAS_AND_NORM = "bias_and_norm"
REQUIRED = inspect.Parameter.empty

MOMENTUM = {
    "learning_rate": REQUIRED,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "exclude_from_weight_decay": BIAS_AND_NORM,
    "learning_rate_in_momentum": False,
}

SIGNATURES = {
    "HeavyBall": MOMENTUM,
    "Nesterov": MOMENTUM,
    "LARS": {
        "learning_rate": REQUIRED,
        "momentum": 0.929,
        "weight_decay": 1e-4,
        "trust_coefficient": 0.001,
        "epsilon": None,
        "exclude_from_layer_adaptation": BIAS_AND_NORM,
        "exclude_from_weight_decay": BIAS_AND_NORM,
        "variant": "mlperf",
    },
    "Adam": {
        "learning_rate": 0.001,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.0,
        "exclude_from_weight_decay": BIAS_AND_NORM,
        "bias_correction": True,
    },
    "LAMB": {
        "learning_rate": 0.001,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": None,
        "weight_decay": 0.01,
        "exclude_from_layer_adaptation": BIAS_AND_NORM,
        "exclude_from_weight_decay": BIAS_AND_NORM,
        "bias_correction": None,
        "zero_norm_ratio": None,
        "fallback_epsilon": None,
        "variant": "mlperf",
    },
    "PiecewisePolynomial": {
        "peak": REQUIRED,
        "total_steps": REQUIRED,
        "warmup_steps": REQUIRED,
        "initial": 0.0,
        "final": 0.0,
        "warmup_power": 1.0,
        "decay_power": 2.0,
        "decay_steps": None,
    },
    "Cosine": {
        "peak": REQUIRED,
        "total_steps": REQUIRED,
        "warmup_steps": 0,
        "final": 0.0,
    },
    "BertPolynomial": {
        "peak": REQUIRED,
        "total_steps": REQUIRED,
        "warmup_steps": REQUIRED,
        "power": 1.0,
        "warmup_power": 1.0,
        "discontinuous": False,
    },
}


@pytest.mark.parametrize("class_name", SIGNATURES)
def test_names_order_and_defaults(family, class_name):
    constructor = getattr(family.largebatch, class_name)
    parameters = inspect.signature(constructor).parameters.values()

    found = {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is not parameter.VAR_KEYWORD
    }

    assert list(found.items()) == list(SIGNATURES[class_name].items())


def test_every_public_name_is_in_the_table(family):
    others = {"BIAS_AND_NORM", "adapt"}
    assert set(family.largebatch.__all__) == {*SIGNATURES, *others}


@pytest.mark.parametrize(
    "name, resolved",
    [
        ("LARS", {"epsilon": 0.0}),
        (
            "LAMB",
            {"epsilon": 1e-6, "bias_correction": True, "zero_norm_ratio": 1.0},
        ),
    ],
)
def test_what_the_default_variant_supplies(family, name, resolved):
    config = family.optimizer(name).get_config()
    assert {key: config[key] for key in resolved} == resolved
