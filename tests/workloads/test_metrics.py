"""What a user's model is judged by: the values that Keras would show."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch.workloads import metrics

SCORES = np.array([[0.1], [0.9], [0.8], [0.3]], "float32")
BINARY = np.array([0, 1, 0, 0])
LOGITS = np.eye(3, dtype="float32")[[0, 1, 2, 2]]
CLASSES = np.array([0, 1, 1, 2])


def test_a_share_is_exactly_what_a_target_of_it_is():
    """In float32, nine of ten are fewer than 0.9."""
    targets = tf.constant([0] * 9 + [1])
    outputs = tf.one_hot([0] * 10, 3)
    metric = metrics.metric_of("accuracy", targets, outputs)
    metric.update_state(targets, outputs)
    assert float(metric.result()) == 0.9


@pytest.mark.parametrize(
    "targets, outputs",
    [
        (BINARY, SCORES),
        (BINARY[:, None], SCORES),
        (CLASSES, LOGITS),
        (CLASSES[:, None], LOGITS),
        (np.eye(3)[CLASSES], LOGITS),
    ],
)
def test_accuracy_is_that_of_the_targets_kind(targets, outputs):
    targets, outputs = tf.constant(targets), tf.constant(outputs)
    metric = metrics.metric_of("accuracy", targets, outputs)
    metric.update_state(targets, outputs)
    assert float(metric.result()) == 0.75


def absolute(targets, outputs):
    return tf.abs(tf.cast(targets, tf.float32) - outputs)


@pytest.mark.parametrize(
    "metric, expected",
    [
        ("mae", (0.1 + 0.1 + 0.8 + 0.3) / 4),
        (absolute, (0.1 + 0.1 + 0.8 + 0.3) / 4),
        ("AUC", 1.0),
        (keras.metrics.BinaryAccuracy(threshold=0.85), 1.0),
    ],
)
def test_a_metric_is_a_name_a_function_or_an_object(metric, expected):
    found = metrics.metric_of(metric, BINARY, tf.constant(SCORES))
    found.update_state(BINARY, SCORES)
    assert float(found.result()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "targets, outputs",
    [
        ((4,), (4, 1)),
        ((4, 1), (4,)),
        ((4, 2), (4, 2, 1)),
        ((4, 2, 1), (4, 2)),
        ((4,), (4, 3)),
        ((4,), (4, 1, 1)),
        ((4, 1), (4, 1)),
        ((4, 1), (4, 3)),
    ],
)
def test_targets_and_outputs_are_of_one_rank_where_a_losss_are(
    targets, outputs
):
    """Keras's losses decide; what they get is seen by a function."""

    def see(*pair):
        seen.append([tuple(x.shape) for x in pair])
        return tf.zeros(4)

    seen = []
    pair = tf.zeros(targets), tf.zeros(outputs)
    model = keras.Sequential([keras.layers.Identity()])
    model.compile(loss=see)
    model.compute_loss(None, *pair)
    metrics.metric_of(see, *pair).update_state(*pair)
    assert seen[1:] == [seen[0]] * 2


def test_a_value_for_every_pair_of_examples_is_refused():
    def squeezed(targets, outputs):
        return tf.cast(targets, tf.float32) - outputs[:, 0]

    with pytest.raises(ValueError, match=r"shape \(4, 4\) for 4 examples"):
        metrics.metric_of(squeezed, BINARY, tf.constant(SCORES))
