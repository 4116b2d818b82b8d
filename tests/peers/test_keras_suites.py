"""Keras 3's own tests of its optimizers, with this package's in their place.

They are in Keras's wheel. What cannot pass is named with its reason, and must
fail: docs/keras.md says the same.
"""

import importlib
import types
import unittest

import keras
import pytest

from tf_largebatch.keras import LAMB, Adam, HeavyBall, Nesterov

pytestmark = pytest.mark.slow


def sgd(
    learning_rate=0.01,
    momentum=0.0,
    nesterov=False,
    weight_decay=None,
    **kwargs,
):
    """Returns what computes as Keras's SGD does."""
    return (Nesterov if nesterov else HeavyBall)(
        learning_rate,
        momentum=momentum,
        weight_decay=weight_decay or 0.0,
        exclude_from_weight_decay=(),
        learning_rate_in_momentum=True,
        **kwargs,
    )


def adam(
    learning_rate=0.001,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-7,
    amsgrad=False,
    weight_decay=None,
    **kwargs,
):
    """Returns what computes as Keras's Adam does."""
    if amsgrad:
        raise ValueError(f"there is no AMSGrad. Received: {amsgrad=}")
    return Adam(
        learning_rate,
        beta_1,
        beta_2,
        epsilon,
        weight_decay=weight_decay or 0.0,
        exclude_from_weight_decay=(),
        **kwargs,
    )


def adamw(learning_rate=0.001, weight_decay=0.004, **kwargs):
    """Returns what computes as Keras's AdamW does."""
    return adam(learning_rate, weight_decay=weight_decay, **kwargs)


def lamb(learning_rate=0.001, weight_decay=None, **kwargs):
    """Returns what computes as Keras's Lamb does."""
    return LAMB(
        learning_rate,
        weight_decay=weight_decay or 0.0,
        exclude_from_layer_adaptation=(),
        exclude_from_weight_decay=(),
        variant="keras",
        **kwargs,
    )


OURS = {"SGD": sgd, "Adam": adam, "AdamW": adamw, "Lamb": lamb}


def get(identifier):
    """Returns one of ours by Keras's name, as `keras.optimizers.get` does."""
    known = {name.lower(): make for name, make in OURS.items()}
    if isinstance(identifier, str) and identifier in known:
        return known[identifier]()
    if isinstance(identifier, dict) and identifier["class_name"] in known:
        return known[identifier["class_name"]](**identifier["config"])
    return keras.optimizers.get(identifier)


OPTIMIZERS = types.SimpleNamespace(**{**vars(keras.optimizers), **OURS})
OPTIMIZERS.get = get

SUITES = ("sgd_test", "adam_test", "adamw_test", "lamb_test", "optimizer_test")

NOT_THE_METHOD = "a selector is an argument; the method of that name raises"
NO_AMSGRAD = "there is no AMSGrad"
EXPECTED = {
    "sgd_test": {
        "test_weight_decay": NOT_THE_METHOD,
        "test_invalid_momentum": "the message is in other words",
        "test_single_step": "there is a slot without momentum too",
    },
    "adam_test": {
        "test_weight_decay": NOT_THE_METHOD,
        "test_config": NO_AMSGRAD,
        "test_correctness_with_golden": NO_AMSGRAD,
    },
    "adamw_test": {
        "test_weight_decay": NOT_THE_METHOD,
        "test_config": NO_AMSGRAD,
        "test_weight_decay_is_none": "Adam and AdamW are one class",
        "test_correctness_with_golden": "Keras adds epsilon, here 2, to a "
        "root that is not corrected yet",
    },
    "lamb_test": {"test_weight_decay": NOT_THE_METHOD},
    "optimizer_test": {
        "test_get_method": "it looks for Keras's own classes",
        "test_optimizer_auto_naming": "it looks for Keras's own names",
    },
}


def failures(module):
    """Returns what fails in a module of tests, with the last line of why."""
    found = {}
    for group in unittest.defaultTestLoader.loadTestsFromModule(module):
        for case in group:
            result = unittest.TestResult()
            case.run(result)
            for _, text in result.errors + result.failures:
                last = text.strip().splitlines()[-1]
                found[case._testMethodName] = last
    return found


@pytest.mark.parametrize("suite", SUITES)
def test_ours_in_the_place_of_keras(suite, monkeypatch):
    module = importlib.import_module(f"keras.src.optimizers.{suite}")
    for name, make in OURS.items():
        if hasattr(module, name):
            monkeypatch.setattr(module, name, make)
    if hasattr(module, "optimizers"):
        monkeypatch.setattr(module, "optimizers", OPTIMIZERS)
    found = failures(module)
    assert found.keys() == EXPECTED[suite].keys(), found
