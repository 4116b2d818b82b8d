"""A user's examples: arrays, in whatever form a Keras model takes them."""

import hashlib
import numbers
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_largebatch.errors import UserError

Data = tuple[Any, Any]


def checked(data: Any, name: str) -> Data:
    """Returns inputs and targets as arrays, in the form they have.

    Args:
        data: a pair, each of one array, a list of numbers, or lists, tuples
            and dicts of arrays.
        name: what messages call it.

    Raises:
        UserError: it is none, empty, or of unequal lengths.
    """
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise UserError(
            f"`{name}` must be a pair of inputs and targets; give arrays, not "
            "a tf.data.Dataset, and leave out weights of examples, which are "
            f"not supported. Received: {textwrap.shorten(repr(data), 80)}"
        )
    whole = tuple(np.asarray(x) if is_flat(x) else x for x in data)
    inputs, targets = tf.nest.map_structure(as_array, whole)
    arrays = tf.nest.flatten((inputs, targets))
    if any(x.ndim == 0 or x.dtype.hasobject for x in arrays):
        raise UserError(
            f"`{name}` must hold arrays, an example an element of their first "
            "axis; make lists arrays with numpy.asarray. Received: "
            f"{listed(x.dtype for x in arrays)} of "
            f"{listed(x.ndim for x in arrays)} dimensions"
        )
    lengths = [len(x) for x in arrays]
    if len(set(lengths)) != 1 or not lengths[0]:
        raise UserError(
            f"`{name}` must have as many inputs as targets, and some. "
            f"Received: {listed(lengths)} examples"
        )
    return inputs, targets


def is_flat(values: Any) -> bool:
    """Whether values are a list of numbers, which TensorFlow takes apart."""
    return isinstance(values, (list, tuple)) and all(
        isinstance(x, (numbers.Number, np.bool_)) for x in values
    )


def as_array(values: Any) -> np.ndarray:
    """Returns an array, of Keras's precision where it is of higher one."""
    array = np.asarray(values)
    wide = array.dtype == np.float64
    return array.astype(keras.config.floatx()) if wide else array


def check_alike(data: Data, other: Data, name: str) -> None:
    """Raises UserError where examples are not of the form of the training's.

    Args:
        data: for training.
        other: which may differ in length alone.
        name: what messages call that.
    """
    forms = [
        tf.nest.map_structure(lambda x: f"{x.dtype}{x.shape[1:]}", examples)
        for examples in (data, other)
    ]
    if forms[0] != forms[1]:
        raise UserError(
            f"`{name}` must have examples like `train_data`, {forms[0]}. "
            f"Received: {forms[1]}"
        )


def hold_out(data: Data, fraction: float) -> tuple[Data, Data]:
    """Returns examples without a random part of them, and that part.

    >>> rest, part = hold_out((np.arange(10), np.arange(10)), 0.2)
    >>> part[0], rest[1]
    (array([4, 6]), array([0, 1, 2, 3, 5, 7, 8, 9]))

    Args:
        data: inputs and targets.
        fraction: how large the part is.

    Raises:
        UserError: one of both would be empty.
    """
    count = length(data)
    size = round(fraction * count) if 0 < fraction < 1 else 0
    if not 0 < size < count:
        raise UserError(
            "`validation_fraction` must leave some of the "
            f"{count} examples on both sides. Received: {fraction}"
        )
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(0).permutation(count)[:size]] = True
    return (
        tf.nest.map_structure(lambda x: x[~chosen], data),
        tf.nest.map_structure(lambda x: x[chosen], data),
    )


def first(examples: Any, count: int) -> Any:
    """Returns the first examples."""
    return tf.nest.map_structure(lambda x: x[:count], examples)


def length(examples: Any) -> int:
    """Returns how many examples there are."""
    return tf.nest.flatten(examples)[0].shape[0]


def digest(splits: Mapping[str, Data]) -> str:
    """Returns a short text that other data would not have."""
    found = hashlib.blake2b(digest_size=8)
    for array in tf.nest.flatten(dict(splits)):
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def listed(values: Iterable[Any]) -> str:
    """Returns values as text, not all of many.

    >>> listed([3, 4])
    '3, 4'
    >>> listed(range(1000))
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, [...]'
    """
    return textwrap.shorten(", ".join(map(str, values)), 60)
