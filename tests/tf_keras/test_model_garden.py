"""The optimizers and schedules through the Model Garden's factory."""

import copy
import dataclasses
import inspect
import pickle

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg
from official.core import train_utils
from official.modeling import hyperparams
from official.modeling.optimization import optimizer_factory
from official.modeling.optimization.configs import (
    optimization_config,
    optimizer_config,
)

from tf_largebatch import tf_keras as largebatch
from tf_largebatch.errors import UserError
from tf_largebatch.tf_keras import model_garden
from tf_largebatch.tf_keras.model_garden import LargeBatchOptimizationConfig

# No value here is a default, so that one that gets lost is seen.
DECAY = {"weight_decay": 0.02, "exclude_from_weight_decay": ["kernel"]}
LAYERS = {"exclude_from_layer_adaptation": []}
MOMENTS = {"beta_1": 0.8, "beta_2": 0.98}
OPTIMIZERS = {
    "largebatch_heavy_ball": (
        largebatch.HeavyBall,
        {"momentum": 0.8, "learning_rate_in_momentum": True, **DECAY},
    ),
    "largebatch_nesterov": (
        largebatch.Nesterov,
        {"momentum": 0.8, "clipnorm": 0.3, **DECAY},
    ),
    "largebatch_lars": (
        largebatch.LARS,
        {
            "momentum": 0.8,
            "trust_coefficient": 0.1,
            "epsilon": 1e-3,
            "variant": "optax",
            **DECAY,
            **LAYERS,
        },
    ),
    "largebatch_adam": (
        largebatch.Adam,
        {**MOMENTS, "epsilon": 1e-2, "bias_correction": False, **DECAY},
    ),
    "largebatch_lamb": (
        largebatch.LAMB,
        {
            **MOMENTS,
            "epsilon": 1e-2,
            "bias_correction": False,
            "zero_norm_ratio": 0.5,
            "fallback_epsilon": 1e-3,
            "variant": "keras",
            "exclude_from_layer_adaptation": ["bias"],
            **DECAY,
        },
    ),
}
SCHEDULES = {
    "largebatch_piecewise_polynomial": (
        largebatch.PiecewisePolynomial,
        {
            "peak": 0.5,
            "total_steps": 10,
            "warmup_steps": 2.5,
            "initial": 0.1,
            "final": 0.01,
            "warmup_power": 2.0,
            "decay_power": 3.0,
            "decay_steps": 8.5,
        },
    ),
    "largebatch_cosine": (
        largebatch.Cosine,
        {"peak": 0.5, "total_steps": 10, "warmup_steps": 2.5, "final": 0.01},
    ),
    "largebatch_bert_polynomial": (
        largebatch.BertPolynomial,
        {
            "peak": 0.5,
            "total_steps": 10,
            "warmup_steps": 3,
            "power": 2.0,
            "warmup_power": 3.0,
            "discontinuous": True,
        },
    ),
}
COSINE = {
    "type": "largebatch_cosine",
    "largebatch_cosine": {"peak": 0.5, "total_steps": 10},
}
NESTEROV = {"type": "largebatch_nesterov"}

each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
each_schedule = pytest.mark.parametrize("name", SCHEDULES)


def optimization(optimizer, schedule, **others):
    """Returns a config of the plug-in with these choices."""
    return LargeBatchOptimizationConfig(
        {"optimizer": optimizer, "learning_rate": schedule, **others}
    )


def choice(name, values):
    return {"type": name, name: values}


def trajectory(optimizer, steps=10):
    """Returns what a kernel and a bias become, step by step."""
    rng = np.random.default_rng(0)
    variables = [
        tf.Variable(rng.normal(size=(3, 2)).astype("float32"), name="kernel"),
        tf.Variable(np.zeros(2, "float32"), name="bias"),
    ]
    values = []
    for _ in range(steps):
        gradients = [
            tf.constant(rng.normal(size=variable.shape), tf.float32)
            for variable in variables
        ]
        optimizer.apply_gradients(zip(gradients, variables))
        values += [variable.numpy() for variable in variables]
    return np.concatenate([value.ravel() for value in values])


@each_optimizer
def test_the_factory_builds_what_the_constructor_does(name):
    cls, arguments = OPTIMIZERS[name]
    schedule, values = SCHEDULES["largebatch_piecewise_polynomial"]
    built = model_garden.build_optimizer(
        optimization(
            choice(name, arguments),
            choice("largebatch_piecewise_polynomial", values),
        )
    )
    direct = cls(schedule(**values), **arguments)
    assert type(built) is cls
    assert built.get_config() == direct.get_config()
    ours, theirs = trajectory(built), trajectory(direct)
    np.testing.assert_array_equal(ours, theirs)
    plain = trajectory(cls(schedule(**values)))
    assert not np.isclose(ours, plain, rtol=1e-4)[-8:].any()


@each_schedule
def test_the_factory_builds_the_schedules(name):
    cls, values = SCHEDULES[name]
    config = optimization(NESTEROV, choice(name, values))
    schedule = model_garden.build_optimizer(config)._learning_rate
    assert type(schedule) is cls
    steps = tf.range(12)
    np.testing.assert_array_equal(schedule(steps), cls(**values)(steps))


def arguments_of(cls):
    """Returns the defaults of a constructor's own arguments by name."""
    own = inspect.signature(cls.__init__).parameters.values()
    kinds = (inspect.Parameter.VAR_KEYWORD,)
    defaults = {p.name: p.default for p in own if p.kind not in kinds}
    return {k: v for k, v in defaults.items() if k != "self"}


@each_optimizer
def test_an_optimizers_config_has_its_arguments_and_defaults(name):
    cls, _ = OPTIMIZERS[name]
    config = getattr(LargeBatchOptimizationConfig().optimizer, name).as_dict()
    for base in dataclasses.fields(optimizer_config.BaseOptimizerConfig):
        assert config.pop(base.name) is None
    assert config.pop("name") == cls.__name__
    wanted = arguments_of(cls)
    del wanted["learning_rate"]
    assert config == wanted


@each_schedule
def test_a_schedules_config_has_its_arguments_and_defaults(name):
    cls, _ = SCHEDULES[name]
    config = getattr(LargeBatchOptimizationConfig().learning_rate, name)
    needed = {"peak", "total_steps"}
    wanted = {
        key: None if value is inspect.Parameter.empty else value
        for key, value in arguments_of(cls).items()
    }
    assert config.as_dict() == wanted
    assert all(wanted[key] is None for key in needed)


def test_the_tests_leave_none_out():
    assert set(OPTIMIZERS) == set(model_garden.OPTIMIZERS)
    assert set(SCHEDULES) == set(model_garden.SCHEDULES)


def test_registering_again_is_fine():
    model_garden.register()
    model_garden.register()
    for known in (
        optimizer_factory.LEGACY_OPTIMIZERS_CLS,
        optimizer_factory.NEW_OPTIMIZERS_CLS,
    ):
        assert {
            name: cls for name, (cls, _) in OPTIMIZERS.items()
        }.items() <= known.items()


def test_registering_replaces_no_one_elses_optimizer(monkeypatch):
    monkeypatch.setitem(
        optimizer_factory.LEGACY_OPTIMIZERS_CLS,
        "largebatch_lars",
        tf_keras.optimizers.SGD,
    )
    with pytest.raises(ValueError, match="largebatch_lars already registered"):
        model_garden.register()


def test_nothing_of_the_gardens_is_patched():
    model_garden.build_optimizer(optimization(NESTEROV, COSINE))
    assert not set(SCHEDULES) & set(optimizer_factory.LR_CLS)
    build = optimizer_factory.OptimizerFactory.build_learning_rate
    assert build.__module__ == optimizer_factory.__name__


def test_the_gardens_factory_takes_the_optimizers_with_its_own_schedules():
    model_garden.register()
    config = optimization(NESTEROV, choice("constant", {"learning_rate": 0.3}))
    factory = optimizer_factory.OptimizerFactory(config)
    for legacy in (True, False):
        optimizer = factory.build_optimizer(
            factory.build_learning_rate(), use_legacy_optimizer=legacy
        )
        assert type(optimizer) is largebatch.Nesterov


STEPWISE = {"boundaries": [3, 6], "values": [0.4, 0.2, 0.1]}
POLYNOMIAL = {
    "initial_learning_rate": 0.5,
    "decay_steps": 8,
    "end_learning_rate": 0.01,
    "power": 2.0,
}
LINEAR = {"warmup_steps": 4, "warmup_learning_rate": 0.05}


@pytest.mark.parametrize(
    "schedule, warmup",
    [
        (choice("stepwise", STEPWISE), {"type": None}),
        (choice("stepwise", STEPWISE), choice("linear", LINEAR)),
        (choice("polynomial", POLYNOMIAL), choice("linear", LINEAR)),
    ],
)
@pytest.mark.parametrize("optimizer", ["largebatch_nesterov", "sgd"])
def test_the_gardens_schedules_still_work(optimizer, schedule, warmup):
    config = optimization({"type": optimizer}, schedule, warmup=warmup)
    built = model_garden.build_optimizer(config)
    rates = built._learning_rate if optimizer != "sgd" else built.lr
    theirs = optimizer_factory.OptimizerFactory(config).build_learning_rate()
    found = [float(rates(step)) for step in range(10)]
    assert found == [float(theirs(step)) for step in range(10)]
    assert len(set(found)) > 2


def test_the_gardens_optimizers_take_our_schedules():
    optimizer = model_garden.build_optimizer(
        optimization(choice("sgd", {"momentum": 0.9}), COSINE)
    )
    assert isinstance(optimizer, tf_keras.optimizers.legacy.SGD)
    assert isinstance(optimizer.lr, largebatch.Cosine)


def test_a_stock_config_will_do():
    stock = optimization_config.OptimizationConfig(
        {
            "optimizer": choice("sgd", {"momentum": 0.9}),
            "learning_rate": choice("constant", {"learning_rate": 0.3}),
        }
    )
    optimizer = model_garden.build_optimizer(stock)
    assert float(optimizer.learning_rate) == np.float32(0.3)


@pytest.mark.parametrize(
    "config, words",
    [
        ({}, "Optimizer type must be specified"),
        ({"optimizer": NESTEROV}, "Learning rate type must be specified"),
        (
            {"optimizer": {"type": "largebatch_sgd"}},
            "'largebatch_sgd' is not a valid key",
        ),
        (
            {
                "optimizer": choice("largebatch_nesterov", {"momentum": 1.5}),
                "learning_rate": COSINE,
            },
            "momentum=1.5",
        ),
        (
            {
                "optimizer": choice("largebatch_lars", {"variant": "lars"}),
                "learning_rate": COSINE,
            },
            "variant='lars'",
        ),
        (
            {
                "optimizer": NESTEROV,
                "learning_rate": {"type": "largebatch_cosine"},
            },
            "peak=None",
        ),
        (
            {"optimizer": NESTEROV, "learning_rate": {"type": "cosine"}},
            "cosine lacks initial_learning_rate, decay_steps, in trainer."
            "optimizer_config.learning_rate.cosine; give a value for each",
        ),
        (
            {
                "optimizer": NESTEROV,
                "learning_rate": {"type": "constant"},
                "warmup": {"type": "linear"},
            },
            "linear lacks warmup_steps, in trainer.optimizer_config.warmup",
        ),
        (
            {
                "optimizer": NESTEROV,
                "learning_rate": COSINE,
                "ema": {"average_decay": 0.9},
            },
            "ema is set, in trainer.optimizer_config; leave it out",
        ),
        (
            {
                "optimizer": NESTEROV,
                "learning_rate": COSINE,
                "warmup": choice("linear", LINEAR),
            },
            "has a warmup of its own; remove trainer.optimizer_config.warmup",
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_where(config, words):
    with pytest.raises(UserError) as caught:
        model_garden.build_optimizer(LargeBatchOptimizationConfig(config))
    message = str(caught.value)
    assert words in message and "trainer.optimizer_config" in message
    assert "\n" not in message


def experiment(config):
    return cfg.ExperimentConfig(
        trainer=cfg.TrainerConfig(optimizer_config=config)
    )


@each_optimizer
def test_params_yaml_keeps_every_value_and_the_class(name, tmp_path):
    _, arguments = OPTIMIZERS[name]
    _, values = SCHEDULES["largebatch_bert_polynomial"]
    config = experiment(
        optimization(
            choice(name, arguments),
            choice("largebatch_bert_polynomial", values),
        )
    )
    train_utils.serialize_config(config, str(tmp_path))
    again = hyperparams.override_params_dict(
        experiment(LargeBatchOptimizationConfig()),
        str(tmp_path / "params.yaml"),
        is_strict=True,
    )
    assert again == config
    assert again != experiment(LargeBatchOptimizationConfig())
    found = again.trainer.optimizer_config
    assert type(found) is LargeBatchOptimizationConfig
    assert {
        key: getattr(found.optimizer.get(), key) for key in arguments
    } == arguments


def test_copies_and_replacements_keep_the_class():
    config = experiment(optimization(NESTEROV, COSINE))
    for other in (copy.deepcopy(config), config.replace(trainer={})):
        other.lock()
        found = other.trainer.optimizer_config
        assert type(found) is LargeBatchOptimizationConfig
        assert found == config.trainer.optimizer_config


@each_optimizer
def test_settings_can_be_handed_to_another_process(name):
    config = optimization(choice(name, OPTIMIZERS[name][1]), COSINE)
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert again.as_dict() == config.as_dict()
