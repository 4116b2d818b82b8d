"""What belongs to the other Keras family is refused, in one line."""

import keras
import numpy as np
import pytest
import tf_keras

import tf_largebatch.keras
import tf_largebatch.tf_keras

OTHERS = {
    "keras": tf_largebatch.tf_keras,
    "tf_keras": tf_largebatch.keras,
}


@pytest.fixture
def other(family):
    """The other family's optimizers and schedules."""
    return OTHERS[family.keras.__name__]


def test_a_model_refuses_the_other_familys_optimizer(family, name, other):
    optimizer = getattr(other, name)(0.1)
    right_class = f"{family.largebatch.__name__}.{name}"
    with pytest.raises(ValueError, match=right_class) as caught:
        family.compiled(optimizer)
    assert "\n" not in str(caught.value)


def test_an_optimizer_refuses_the_other_familys_schedule(family, name, other):
    schedule = other.Cosine(0.1, 10)
    with pytest.raises(ValueError, match="`learning_rate`") as caught:
        getattr(family.largebatch, name)(schedule)
    assert f"schedule ({family.largebatch.__name__} has" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tf_keras_optimizers_refuse_keras_3_variables(name):
    w = keras.Variable(np.ones((2, 2), "float32"), name="kernel")
    optimizer = getattr(tf_largebatch.tf_keras, name)(0.1)
    right_class = f"tf_largebatch.keras.{name}"
    with pytest.raises(ValueError, match=right_class) as caught:
        optimizer.apply_gradients([(np.ones((2, 2), "float32"), w)])
    assert "'kernel'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keras_3_optimizers_take_variables_of_tf_keras():
    layer = tf_keras.layers.Dense(2)
    layer.build((None, 3))
    optimizer = tf_largebatch.keras.HeavyBall(
        1.0, exclude_from_weight_decay=["kernel$"], weight_decay=0.5
    )
    kernel = layer.kernel.numpy()
    layer.bias.assign([2.0, 4.0])

    optimizer.apply_gradients((np.zeros(v.shape), v) for v in layer.weights)

    np.testing.assert_array_equal(layer.kernel.numpy(), kernel)
    np.testing.assert_array_equal(layer.bias.numpy(), [1.0, 2.0])
