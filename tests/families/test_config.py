"""`get_config` and `from_config`: every argument comes back as it was."""

import json

import numpy as np
import pytest

from tf_largebatch.rules import LAMB_VARIANTS, LARS_VARIANTS

MOMENTUM = {
    "learning_rate": 0.5,
    "momentum": 0.8,
    "weight_decay": 0.02,
    "exclude_from_weight_decay": ["bias$", "norm/"],
    "learning_rate_in_momentum": True,
    "global_clipnorm": 2.0,
}

ARGUMENTS = {
    "HeavyBall": MOMENTUM,
    "Nesterov": MOMENTUM,
    "LARS": {
        "learning_rate": 0.5,
        "momentum": 0.8,
        "weight_decay": 0.02,
        "trust_coefficient": 0.01,
        "epsilon": 1e-3,
        "exclude_from_layer_adaptation": ["bias$", "norm/"],
        "exclude_from_weight_decay": [],
        "variant": "timm",
        "clipnorm": 2.0,
    },
    "Adam": {
        "learning_rate": 0.5,
        "beta_1": 0.8,
        "beta_2": 0.95,
        "epsilon": 1e-3,
        "weight_decay": 0.02,
        "exclude_from_weight_decay": ["norm/"],
        "bias_correction": False,
        "use_ema": True,
    },
    "LAMB": {
        "learning_rate": 0.5,
        "beta_1": 0.8,
        "beta_2": 0.95,
        "epsilon": 1e-3,
        "weight_decay": 0.02,
        "exclude_from_layer_adaptation": ["norm/"],
        "exclude_from_weight_decay": ["bias$"],
        "bias_correction": False,
        "zero_norm_ratio": 0.5,
        "fallback_epsilon": 1e-4,
        "variant": "keras",
        "clipvalue": 2.0,
    },
}

SCHEDULES = {
    "PiecewisePolynomial": {
        "peak": 2.0,
        "total_steps": 10,
        "warmup_steps": 2.5,
        "initial": 0.25,
        "final": 0.125,
        "warmup_power": 2.0,
        "decay_power": 1.5,
        "decay_steps": 8.5,
    },
    "Cosine": {
        "peak": 2.0,
        "total_steps": 10,
        "warmup_steps": 2.5,
        "final": 0.25,
    },
    "BertPolynomial": {
        "peak": 2.0,
        "total_steps": 10,
        "warmup_steps": 2.5,
        "power": 2.0,
        "warmup_power": 1.5,
        "discontinuous": True,
    },
}


def is_head(path, shape):
    return path.endswith("head/kernel") and len(shape) == 2


def through_json(thing):
    config = json.loads(json.dumps(thing.get_config()))
    return type(thing).from_config(config)


def test_every_argument_comes_back(family, name):
    optimizer = family.optimizer(name, **ARGUMENTS[name])
    config = optimizer.get_config()

    assert {key: config[key] for key in ARGUMENTS[name]} == ARGUMENTS[name]
    assert through_json(optimizer).get_config() == config


@pytest.mark.parametrize(
    "selector", ["bias_and_norm", (), ("hidden/", "bias$"), is_head]
)
def test_every_kind_of_selector_comes_back(family, selector):
    register = family.keras.saving.register_keras_serializable("tests")
    register(is_head)
    model = family.model()
    optimizer = family.largebatch.LAMB(
        exclude_from_layer_adaptation=selector,
        exclude_from_weight_decay=selector,
    )
    again = through_json(optimizer)

    optimizer.build(model.trainable_variables)
    again.build(model.trainable_variables)

    assert again.get_config() == optimizer.get_config()
    assert again._treatments == optimizer._treatments
    kernel, head = again._treatments[0], again._treatments[4]
    assert kernel.adapted == (selector != ("hidden/", "bias$"))
    assert head.adapted == (selector != is_head)
    expected_biases = selector in ((), is_head)
    assert again._treatments[1].decayed == expected_biases


def test_functions_may_be_given_as_custom_objects(family):
    def only_tails(path, shape):
        return path.endswith("tail")

    optimizer = family.largebatch.Adam(exclude_from_weight_decay=only_tails)
    config = optimizer.get_config()
    known = {"only_tails": only_tails}
    again = type(optimizer).from_config(config, custom_objects=known)
    assert again.get_config() == config


@pytest.mark.parametrize("variant", LARS_VARIANTS)
def test_variants_of_lars_resolve_in_the_config(family, variant):
    config = family.optimizer("LARS", variant=variant).get_config()

    assert config["variant"] == variant
    assert config["epsilon"] == LARS_VARIANTS[variant].epsilon
    explicit = family.optimizer("LARS", variant=variant, epsilon=0.5)
    assert explicit.get_config()["epsilon"] == 0.5


@pytest.mark.parametrize("variant", LAMB_VARIANTS)
def test_variants_of_lamb_resolve_in_the_config(family, variant):
    published = LAMB_VARIANTS[variant]
    config = family.optimizer("LAMB", variant=variant).get_config()

    assert config["variant"] == variant
    assert config["epsilon"] == published.epsilon
    assert config["bias_correction"] == published.bias_correction
    assert config["zero_norm_ratio"] == published.zero_norm_ratio


def test_an_explicit_argument_wins_over_the_variant(family):
    optimizer = family.optimizer(
        "LAMB", variant="flax", zero_norm_ratio=1.0, bias_correction=False
    )
    config = through_json(optimizer).get_config()
    assert (config["zero_norm_ratio"], config["bias_correction"]) == (
        1.0,
        False,
    )


@pytest.mark.parametrize("schedule_name", SCHEDULES)
def test_schedules_come_back_alone_and_in_an_optimizer(family, schedule_name):
    arguments = SCHEDULES[schedule_name]
    schedule = getattr(family.largebatch, schedule_name)(**arguments)
    optimizer = through_json(family.largebatch.LARS(schedule))
    inside = optimizer._learning_rate

    assert schedule.get_config() == arguments
    for again in (through_json(schedule), inside):
        assert type(again) is type(schedule)
        for step in (0, 2, 3, 9, 12):
            np.testing.assert_array_equal(again(step), schedule(step))
