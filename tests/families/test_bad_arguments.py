"""Arguments that make no optimizer: one line that names the argument."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch.optimizers.base import check_hyperparameter

BAD = [
    ("HeavyBall", {"learning_rate": -0.1}),
    ("HeavyBall", {"learning_rate": math.nan}),
    ("HeavyBall", {"learning_rate": math.inf}),
    ("HeavyBall", {"learning_rate": "0.1"}),
    ("HeavyBall", {"learning_rate": None}),
    ("HeavyBall", {"learning_rate": 10**400}),
    ("HeavyBall", {"learning_rate": np.array([0.1, 0.2])}),
    ("HeavyBall", {"learning_rate": np.str_("0.1")}),
    ("HeavyBall", {"learning_rate": np.array(-0.1)}),
    ("HeavyBall", {"learning_rate": np.array(math.nan)}),
    ("HeavyBall", {"learning_rate": tf.constant(-1.0)}),
    ("HeavyBall", {"learning_rate": np.array(True)}),
    ("HeavyBall", {"momentum": np.array([0.1, 0.2])}),
    ("HeavyBall", {"momentum": np.array(1.0)}),
    ("HeavyBall", {"momentum": lambda: 0.9}),
    ("HeavyBall", {"momentum": 1.0}),
    ("Nesterov", {"momentum": -0.1}),
    ("Nesterov", {"momentum": True}),
    ("Nesterov", {"weight_decay": math.nan}),
    ("Nesterov", {"weight_decay": None}),
    ("Nesterov", {"learning_rate_in_momentum": "yes"}),
    ("LARS", {"trust_coefficient": -1}),
    ("LARS", {"trust_coefficient": [0.1]}),
    ("LARS", {"epsilon": -1e-9}),
    ("LARS", {"variant": "lamb"}),
    ("LARS", {"variant": ["mlperf"]}),
    ("LARS", {"exclude_from_layer_adaptation": "bias"}),
    ("LARS", {"exclude_from_layer_adaptation": ["("]}),
    ("LARS", {"exclude_from_weight_decay": None}),
    ("LARS", {"exclude_from_weight_decay": [1]}),
    ("Adam", {"beta_1": 1}),
    ("Adam", {"beta_2": math.nan}),
    ("Adam", {"beta_2": 1 - 1e-8}),
    ("Adam", {"beta_2": tf.constant(1)}),
    ("Adam", {"weight_decay": float}),
    ("Adam", {"epsilon": "1e-8"}),
    ("Adam", {"bias_correction": 1}),
    ("LAMB", {"beta_1": 1 - 2.0**-25}),
    ("LAMB", {"beta_2": 1.5}),
    ("LAMB", {"zero_norm_ratio": -1.0}),
    ("LAMB", {"fallback_epsilon": math.nan}),
    ("LAMB", {"variant": "MLPerf"}),
]


@pytest.mark.parametrize("bad_name, arguments", BAD)
def test_a_bad_argument_is_named_in_one_line(family, bad_name, arguments):
    (argument,) = arguments
    with pytest.raises(ValueError) as caught:
        family.optimizer(bad_name, **arguments)
    message = str(caught.value)
    assert f"`{argument}`" in message
    assert "\n" not in message


def test_only_the_rate_may_be_a_schedule(family):
    schedule = family.largebatch.Cosine(0.9, 10)
    family.optimizer("LARS", learning_rate=schedule)
    with pytest.raises(ValueError, match="`momentum` must be a finite number"):
        family.optimizer("LARS", momentum=schedule)


def test_an_array_of_one_number_is_a_number(family):
    optimizer = family.optimizer("HeavyBall", momentum=np.array(0.5))
    assert optimizer.get_config()["momentum"] == 0.5


def test_a_tensor_without_a_value_passes():
    @tf.function
    def trace(value):
        check_hyperparameter("momentum", value)

    trace(tf.constant(0.5))


def test_the_variants_are_listed_where_one_is_unknown(family):
    with pytest.raises(ValueError, match="mlperf_tf, contrib_old, optax"):
        family.optimizer("LARS", variant="mlperf2")


def test_a_pattern_that_matches_nothing_is_named_with_the_paths(family):
    model = family.model()
    optimizer = family.optimizer("LAMB", exclude_from_weight_decay=["gama"])
    with pytest.raises(ValueError, match="gama") as caught:
        optimizer.build(model.trainable_variables)
    assert "norm/gamma" in str(caught.value)


def test_keras_own_method_of_exclusion_is_refused(family, name):
    optimizer = family.optimizer(name)
    with pytest.raises(ValueError, match="constructor"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])


def test_warmup_longer_than_the_run(family):
    with pytest.raises(ValueError, match="warmup_steps"):
        family.largebatch.PiecewisePolynomial(1.0, 10, 11)
