"""What a user's model is judged by, as Keras takes it."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_largebatch.workloads import arrays


def metric_of(metric: Any, targets: Any, outputs: Any) -> keras.metrics.Metric:
    """Returns a metric that can be updated.

    Args:
        metric: the name of one of Keras's, ``accuracy`` being that of the
            kind of targets; a function of targets and outputs, which it gets
            by :func:`of_one_rank`, that returns a value an example; or an
            object, which is taken as it is.
        targets: of some examples.
        outputs: the model's for them.

    Raises:
        ValueError: there is no such metric, or the function has not a value
            an example.
    """
    if metric == "accuracy":
        metric = accuracy(targets, outputs)
    found = keras.metrics.get(metric)
    if isinstance(found, keras.metrics.Metric):
        return found

    def measure(targets: Any, outputs: Any) -> Any:
        return found(*of_one_rank(targets, outputs))

    values = tf.convert_to_tensor(measure(targets, outputs))
    count = arrays.length(targets)
    # Values of all pairs of examples have the right length too.
    most = max(map(np.size, tf.nest.flatten((targets, outputs))))
    if values.shape[:1] != count or np.size(values) > most:
        raise ValueError(
            f"it has the shape {tuple(values.shape)} for {count} "
            "examples, not a value an example"
        )
    # In float32, 0.9 is less than a target of 0.9.
    return keras.metrics.MeanMetricWrapper(measure, dtype="float64")


def of_one_rank(targets: Any, outputs: Any) -> tuple[Any, Any]:
    """Returns both as Keras's losses take them: differing by no axis of 1.

    >>> [x.shape for x in of_one_rank(np.zeros(3), np.zeros((3, 1)))]
    [(3, 1), (3, 1)]
    >>> [x.shape for x in of_one_rank(np.zeros((3, 4)), np.zeros((3, 4, 1)))]
    [(3, 4), (3, 4)]

    Args:
        targets: an array or tensor; structures are left as they are.
        outputs: the same.
    """
    if tf.nest.is_nested(targets) or tf.nest.is_nested(outputs):
        return targets, outputs
    return as_wide_as(targets, outputs), as_wide_as(outputs, targets)


def as_wide_as(values: Any, others: Any) -> Any:
    """Returns values, of others' rank where that lacks or adds an axis of 1."""
    rank, wanted = len(values.shape), len(others.shape)
    if (rank, wanted) == (1, 2) and others.shape[-1] == 1:
        return values[:, np.newaxis]
    if rank == wanted + 1 > 2 and values.shape[-1] == 1:
        return values[..., 0]
    return values


def accuracy(targets: tf.Tensor, outputs: tf.Tensor) -> Callable:
    """Returns the accuracy that Keras takes for such targets and outputs."""
    if outputs.shape[-1] == 1:
        return keras.metrics.binary_accuracy
    sparse = targets.shape.rank < outputs.shape.rank or targets.shape[-1] == 1
    if sparse:
        return keras.metrics.sparse_categorical_accuracy
    return keras.metrics.categorical_accuracy


def are_classes(targets: np.ndarray, outputs: tf.Tensor) -> bool:
    """Whether :func:`accuracy` can find targets among the outputs' classes.

    >>> are_classes(np.array([0.0, 0.5]), np.zeros((2, 1)))
    False
    >>> are_classes(np.array([[0.1, 0.9]]), np.zeros((1, 2)))
    True

    Args:
        targets: 0 or 1 where there is one output, or else whole numbers or
            shares that add up to 1, such as smoothed ones.
        outputs: the model's for some of them.
    """
    values = np.asarray(targets, "float64")
    if outputs.shape[-1] == 1:
        return bool(np.isin(values, (0, 1)).all())
    shares = values.ndim == len(outputs.shape) and bool(
        np.allclose(values.sum(-1), 1, atol=1e-3) and (values >= 0).all()
    )
    return shares or bool((values == np.round(values)).all())


def odd(targets: np.ndarray) -> str:
    """Returns a target that is least like a class, as text."""
    values = np.asarray(targets, "float64").ravel()
    fractions = np.abs(values - np.round(values))
    at = np.argmax(fractions if fractions.any() else np.abs(values))
    return f"{values[at]:g}"
